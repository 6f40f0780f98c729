package wire_test

import (
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestTokenFault(t *testing.T) {
	for _, f := range []wire.TokenFault{"", wire.TokenExpired, wire.TokenNotYetValid, wire.TokenID, wire.TokenAudience, wire.TokenClaims} {
		if got := wire.ParseTokenFault(http.Header{"Www-Authenticate": {f.Challenge()}}); got != f {
			t.Errorf("%q came back as %q", f, got)
		}
	}
	for _, tt := range []struct {
		values []string
		want   wire.TokenFault
	}{
		{nil, ""},
		{[]string{"Bearer"}, ""},
		{[]string{`Basic realm="x"`}, ""},
		{[]string{`Basic reason="expired"`}, ""},
		{[]string{`Basic realm="x"`, `Bearer error="invalid_token", reason="id"`}, wire.TokenID},
		{[]string{`Basic realm="x", Bearer error="invalid_token", reason="id"`}, wire.TokenID},
		{[]string{`Bearer error="invalid_token", reason="id", Basic realm="x"`}, wire.TokenID},
		{[]string{`bearer realm="a",reason=expired`}, wire.TokenExpired},
		{[]string{`Bearer  Reason = "not_yet_valid" , error="invalid_token"`}, wire.TokenNotYetValid},
		{[]string{`Bearer reason="of_a_later_version"`}, "of_a_later_version"},
		{[]string{`Bearer reason="two words"`}, ""},
		{[]string{`Bearer unreason="expired"`}, ""},
	} {
		if got := wire.ParseTokenFault(http.Header{"Www-Authenticate": tt.values}); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.values, got, tt.want)
		}
	}
}
