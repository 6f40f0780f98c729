package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A refusal is the answer to a registration that gets no session: one sentence of
// plain text, with the code at its end.
type refusal struct {
	code   errorCode
	status int
	told   string // the sentence, for the caller; never the token
	logged string // the reason in the log; empty: told

	challenge  string        // sent as WWW-Authenticate, unless it is empty
	retryAfter time.Duration // sent as Retry-After, unless it is zero
}

// kind is the refusal's among the outcomes of registrations.
func (f *refusal) kind() string { return refusedKind(f.status) }

// write answers the registration. Every refusal goes through it.
func (f *refusal) write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if f.challenge != "" {
		h.Set("WWW-Authenticate", f.challenge)
	}
	if f.retryAfter > 0 {
		h.Set("Retry-After", retryAfter(f.retryAfter))
	}
	w.WriteHeader(f.status)
	io.WriteString(w, fmt.Sprintf("%s (%s)\n", f.told, f.code))
}

// log writes the audit line. g is the grant of a token that was valid once, if there
// is one.
func (f *refusal) log(log zerolog.Logger, g grant) {
	level, reason := zerolog.WarnLevel, f.logged
	if f.status == http.StatusServiceUnavailable || f.status == http.StatusConflict {
		level = zerolog.InfoLevel
	}
	if reason == "" {
		reason = f.told
	}
	log.WithLevel(level).Str(logevent.Field, logevent.Refused).Str("error_code", string(f.code)).Int("status", f.status).
		Str("reason", fmt.Sprintf("%.*s", maxReason, reason)).EmbedObject(g).Msg("registration refused")
}

// badID refuses a client id.
func badID(err error) *refusal {
	return &refusal{code: codeBadID, status: http.StatusBadRequest, told: err.Error()}
}

// badToken refuses a token, for the reason err. One answer, code and all, for every
// reason, which is for the log alone, unless a right signature shows that the
// caller is no stranger.
func badToken(err error) *refusal {
	f := &refusal{
		code: codeToken, status: http.StatusUnauthorized, told: "a valid token for this client id is required",
		logged: err.Error(), challenge: wire.TokenFault("").Challenge(),
	}
	var fault *tokenFault
	if errors.As(err, &fault) {
		f.code, f.told, f.challenge = tokenCodes[fault.reason], fault.told, fault.reason.Challenge()
	}
	return f
}

var tokenCodes = map[wire.TokenFault]errorCode{
	wire.TokenClaims:      codeTokenClaims,
	wire.TokenID:          codeTokenID,
	wire.TokenAudience:    codeTokenAudience,
	wire.TokenNotYetValid: codeTokenNotYetValid,
	wire.TokenExpired:     codeTokenExpired,
}

// tooManyFailures refuses a caller without a valid token, from an address with too
// many of those, which may come again after wait.
func tooManyFailures(wait time.Duration) *refusal {
	return &refusal{
		code: codeTooManyFailures, status: http.StatusTooManyRequests, told: "too many failed registrations from this address",
		retryAfter: wait,
	}
}

// badHandshake refuses a registration that is no websocket handshake of the tunnel
// protocol.
func badHandshake(code errorCode, text string) *refusal {
	return &refusal{code: code, status: http.StatusBadRequest, told: text}
}

// noPlace refuses a registration that may come again after wait.
func noPlace(code errorCode, wait time.Duration, text string) *refusal {
	return &refusal{code: code, status: http.StatusServiceUnavailable, told: text, retryAfter: wait}
}

// notJoined refuses a registration that is to join a session, for the reason err.
func notJoined(err error) *refusal {
	return &refusal{code: codeNotJoined, status: http.StatusConflict, told: err.Error()}
}
