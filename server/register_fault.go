package server

import (
	"fmt"
	"math"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A tokenFault is the rule that a token breaks whose signature is right. Its
// holder is no stranger and is told, unlike one whose signature is not right.
type tokenFault struct {
	reason wire.TokenFault
	told   string // the sentence for the holder; it names no id and no audience
	text   string // for the log
}

func (f *tokenFault) Error() string { return f.text }

// badClaim is the fault of a token whose claims break a rule at any time and for any
// service. text names the claim, never its value.
func badClaim(text string) *tokenFault {
	return &tokenFault{reason: wire.TokenClaims, told: "the " + text, text: text}
}

// expiredAt is the fault of a token whose exp has passed; both in Unix seconds.
func expiredAt(exp, now int64) *tokenFault {
	return &tokenFault{
		reason: wire.TokenExpired,
		told:   fmt.Sprintf("the token expired %s ago by the service's clock: exp is %s, now is %s", between(exp, now), clockTime(exp), clockTime(now)),
		text:   "token has expired",
	}
}

// validFrom is the fault of a token whose nbf is still to come; both in Unix
// seconds.
func validFrom(nbf, now int64) *tokenFault {
	return &tokenFault{
		reason: wire.TokenNotYetValid,
		told:   fmt.Sprintf("the token is not valid for another %s by the service's clock: nbf is %s, now is %s", between(now, nbf), clockTime(nbf), clockTime(now)),
		text:   "token is not good yet",
	}
}

// between returns the time from one to the other, both in Unix seconds.
func between(from, to int64) string {
	const longest = int64(math.MaxInt64 / time.Second)
	return shortDuration(time.Duration(min(to-from, longest)) * time.Second)
}

func clockTime(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.RFC3339) }
