package wire_test

import (
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestNormalID(t *testing.T) {
	for id, want := range map[string]string{
		"plain":        "plain",
		"team%2Fbuild": "team%2Fbuild",
		"team%2fbuild": "team%2Fbuild",
		"a%2Db%5F%7e":  "a-b_~",
		"%41%6a%30":    "Aj0",
		"%25%20%e4":    "%25%20%E4",
		"a%2eb":        "a.b",
	} {
		if got := wire.NormalID(id); got != want {
			t.Errorf("NormalID(%q) is %q, want %q", id, got, want)
		}
	}
}
