package wire_test

import (
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// The numbers and words are what clients in other languages rely on.
func TestCloseCode(t *testing.T) {
	for code, want := range map[wire.CloseCode]string{
		4000: "replaced", 4001: "token expired", 4002: "draining", 4003: "evicted", 4004: "protocol violation", 4005: "overloaded",
		3999: "unknown", 4006: "unknown", 1000: "unknown", 0: "unknown", -1: "unknown",
	} {
		if got := code.String(); got != want {
			t.Errorf("%d is %q, want %q", code, got, want)
		}
	}
	for i, code := range []wire.CloseCode{wire.CloseReplaced, wire.CloseTokenExpired, wire.CloseDraining, wire.CloseEvicted, wire.CloseProtocol, wire.CloseOverloaded} {
		if int(code) != 4000+i {
			t.Errorf("%v is %d, want %d", code, int(code), 4000+i)
		}
	}
}
