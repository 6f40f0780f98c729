package tunnelclient

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// maxMessage is the length in characters of the longest RefusedError.Message.
const maxMessage = 200

// RefusedError says that the service refused a registration, or evicted the
// tunnel. [Client.Serve] returns one where a retry cannot help: status 400,
// status 401 twice with no newer token to try, unless Reason is "not_yet_valid",
// and close code 4003.
// Config.OnStateChange sees the others too.
type RefusedError struct {
	// Status is the HTTP status of a refused registration; otherwise zero.
	Status int
	// Message is the service's reason: one line of at most 200 characters
	// without control characters. It may be empty.
	Message string
	// Reason is the word for the rule that a refused token breaks, which the
	// service tells where the token's signature is right: "expired",
	// "not_yet_valid", "id" (the token is for another client id), "audience" (it
	// is for another service) or "claims" (one is missing, malformed or out of
	// bounds); later versions of the service may have others. Otherwise empty.
	Reason string
	// ClockOffset is how far the service's clock was ahead of this machine's
	// when it refused the registration, to about a second; negative if it was
	// behind. It is zero too if the answer had no date.
	ClockOffset time.Duration
	// CloseCode is the websocket close code of an eviction; otherwise zero.
	CloseCode int

	retryAfter time.Duration // what the service asked for, or zero
	dated      bool          // ClockOffset is known
	speaksTLS  bool          // the answer is what servers with TLS say to plain HTTP
}

// Error returns one line that says what happened and what to do about it.
func (e *RefusedError) Error() string {
	text := fmt.Sprintf("the service refused the registration with status %d", e.Status)
	switch {
	case e.CloseCode != 0:
		text = fmt.Sprintf("the service ended the tunnel with close code %d (%s)", e.CloseCode, e.word())
	case e.Status == http.StatusUnauthorized:
		text = "the service refused the token (401)"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	for _, more := range []string{e.clocks(), e.hint()} {
		if more != "" {
			text += "; " + more
		}
	}
	return text
}

// notYetValid reports whether waiting makes the refused token good.
func (e *RefusedError) notYetValid() bool {
	return e.Status == http.StatusUnauthorized && wire.TokenFault(e.Reason) == wire.TokenNotYetValid
}

// clocks compares this machine's clock with the service's, or returns "" where
// the token's times are not what was wrong.
func (e *RefusedError) clocks() string {
	const same = 2 * time.Second // a date has whole seconds, and its way takes time
	switch fault := wire.TokenFault(e.Reason); {
	case fault != wire.TokenExpired && fault != wire.TokenNotYetValid || !e.dated:
		return ""
	case e.ClockOffset >= same:
		return fmt.Sprintf("this machine's clock is %v behind the service's", e.ClockOffset)
	case e.ClockOffset <= -same:
		return fmt.Sprintf("this machine's clock is %v ahead of the service's", -e.ClockOffset)
	}
	return "this machine's clock agrees with the service's"
}

// hint returns what to do, or "" where waiting is all there is to do.
func (e *RefusedError) hint() string {
	switch {
	case e.CloseCode == int(wire.CloseEvicted):
		return "ask the service's operator to lift the block, or use a newer token"
	case e.CloseCode != 0:
		return ""
	case e.speaksTLS:
		return "the port speaks TLS: use https://"
	case e.Status == http.StatusBadRequest:
		return "check the client id and that client and service are of matching versions"
	case e.notYetValid():
		return "it is tried again until it is valid"
	case e.Status == http.StatusUnauthorized:
		return "get a fresh token for this client id and this service"
	case e.Status == http.StatusForbidden:
		return "a proxy or firewall on the way may not let websockets pass"
	case e.Status == http.StatusUpgradeRequired:
		return "a proxy on the way may not pass websocket upgrades on, or the server URL is wrong"
	case e.Status == http.StatusProxyAuthRequired:
		return "the proxy on the way wants credentials"
	case e.Status < 500 && e.Status != http.StatusTooManyRequests && e.Status != http.StatusRequestTimeout:
		return "the server URL may be wrong"
	}
	return ""
}

// refused makes an error of a handshake's answer that is no 101. token is the
// one that was sent; it must not come back in the message.
func refused(resp *http.Response, token string) *RefusedError {
	e := &RefusedError{
		Status:     resp.StatusCode,
		retryAfter: parseRetryAfter(resp.Header, time.Now()),
	}
	if resp.StatusCode == http.StatusUnauthorized {
		e.Reason = string(wire.ParseTokenFault(resp.Header))
	}
	if clock, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		e.ClockOffset, e.dated = time.Until(clock).Round(time.Second), true
	}
	if loc, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		// Scheme and host only: the rest may hold secrets.
		to := url.URL{Scheme: loc.Scheme, Host: loc.Host}
		e.Message = oneLine("it redirects to " + to.String())
		return e
	}
	if resp.Body == nil {
		return e
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	e.speaksTLS = e.Status == http.StatusBadRequest && speaksTLS.Match(body)
	if err == nil && !quotesToken(string(body), token) {
		e.Message = oneLine(string(body))
	}
	return e
}

// speaksTLS matches what Go, nginx and Apache answer to plain HTTP at a port
// with TLS.
var speaksTLS = regexp.MustCompile(`HTTP request (to an HTTPS server|was sent to HTTPS port)|speaking plain HTTP to an SSL-enabled`)

// quotesToken reports whether text holds token or a longer piece of it, as
// the answer of a debugging proxy may.
func quotesToken(text, token string) bool {
	const piece = 24
	if len(token) <= piece {
		return strings.Contains(text, token)
	}
	for len(token) >= piece { // a shorter rest may be in any text
		if strings.Contains(text, token[:piece]) {
			return true
		}
		token = token[piece:]
	}
	return false
}

// oneLine returns the first line of text, fit for a terminal and a log, or ""
// if the text is not one for people, such as HTML.
func oneLine(text string) string {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "<") || strings.HasPrefix(text, "{") {
		return ""
	}
	text, _, _ = strings.Cut(text, "\n")
	text = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text)
	text = strings.TrimRight(strings.TrimSpace(text), ".")
	if r := []rune(text); len(r) > maxMessage {
		text = string(r[:maxMessage-1]) + "…"
	}
	return text
}

// evicted makes an error of the end of a session with close code 4003.
func evicted(end *SessionError) *RefusedError {
	e := &RefusedError{CloseCode: int(wire.CloseEvicted)}
	if end.Reason != e.word() {
		e.Message = end.Reason
	}
	return e
}

func (e *RefusedError) word() string { return wire.CloseCode(e.CloseCode).String() }
