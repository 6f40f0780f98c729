package wire

import (
	"net/http"
	"regexp"
	"strings"
)

// TokenFault says in one word which rule a token breaks. The service tells it to
// the holder of a token whose signature is right.
type TokenFault string

// The faults of a token, as docs/protocol.md, section 2.2, has them.
const (
	TokenExpired     TokenFault = "expired"
	TokenNotYetValid TokenFault = "not_yet_valid"
	TokenID          TokenFault = "id"       // it is for another client id
	TokenAudience    TokenFault = "audience" // it is for another service
	TokenClaims      TokenFault = "claims"   // a claim is missing, malformed or out of bounds
)

// Challenge returns the value of WWW-Authenticate for f; "" stands for a token
// whose signature is not right.
func (f TokenFault) Challenge() string {
	if f == "" {
		return "Bearer"
	}
	return `Bearer error="invalid_token", reason="` + string(f) + `"`
}

var (
	bearerChallenge = regexp.MustCompile(`(?i)(?:^|,)\s*Bearer\s+(.*)$`)
	challengeReason = regexp.MustCompile(`(?i)(?:^|,)\s*reason\s*=\s*"?([a-z_]{1,32})"?\s*(?:,|$)`)
)

// ParseTokenFault returns the reason of the bearer challenge in a 401's header,
// perhaps one that this version does not know, or "" if there is none.
func ParseTokenFault(h http.Header) TokenFault {
	for _, v := range h["Www-Authenticate"] {
		params := bearerChallenge.FindStringSubmatch(v)
		if params == nil {
			continue
		}
		if reason := challengeReason.FindStringSubmatch(params[1]); reason != nil {
			return TokenFault(strings.ToLower(reason[1]))
		}
	}
	return ""
}
