package tunnelclient

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// unknownCode is the word for the codes that the protocol does not know.
var unknownCode = wire.CloseCode(0).String()

// SessionError says why a session ended. It is in State.Err of the state that
// follows, and there is nothing to do about it but to tell: the [Client] goes
// on by itself, according to Code:
//
//	4000  a newer connection registered the id: connect again after 2.5 to 5 s,
//	      doubling up to 30 to 60 s while this goes on, as a standby
//	4001  the token ran out and no fresh one came: ask the TokenSource again
//	4002  the service drains: connect again, if that has not happened already
//	4003  an operator evicted the tunnel: [Client.Serve] returns a
//	      [*RefusedError], unless the TokenSource has a newer token
//	4004  the service met what breaks the protocol: connect again. It is a bug
//	4005  the service is overloaded: connect again after the delay that it
//	      named before
//	0     there was no close code: the connection broke. Connect again
//	other, such as 1001 from a proxy: connect again
//
// "Connect again" means after a random 0 to 1 s; the bound doubles up to 30 s
// and starts anew once a session has lived 10 s. The package comment has more about it.
type SessionError struct {
	// Code is the websocket close code that the service, or a proxy on the
	// way, sent. Zero if the connection ended without one.
	Code int
	// Reason is what came with Code: one line of at most 200 characters
	// without control characters. It may be empty.
	Reason string
	// Err is what the connection failed with, or nil if it just ended.
	Err error
}

// Error returns one line.
func (e *SessionError) Error() string {
	code := wire.CloseCode(e.Code)
	word := code.String()
	switch {
	case e.Code == 0 && e.Err == nil:
		return "the connection to the service was lost"
	case e.Code == 0:
		return "the connection to the service broke: " + e.Err.Error()
	}
	text := fmt.Sprintf("the service closed the session: %s (close code %d)", word, e.Code)
	if word == unknownCode {
		text = fmt.Sprintf("the session was closed with close code %d", e.Code)
	}
	if e.Reason != "" && e.Reason != word {
		text += ": " + e.Reason
	}
	switch code {
	case wire.CloseReplaced:
		text += "; another client has registered this id: stop one of the two, or use another id"
	case wire.CloseTokenExpired:
		text += "; it takes a fresh token to connect again"
	}
	return text
}

// Unwrap returns Err.
func (e *SessionError) Unwrap() error { return e.Err }

// errGaveUp is why HTTP/2 ends a connection on its own without a word.
var errGaveUp = errors.New("the service sent invalid HTTP/2")

// newSessionError makes a SessionError of what h2conn.Serve returned and of
// what the Conn says. It is never nil.
func newSessionError(serve, conn error) *SessionError {
	for _, err := range []error{serve, conn} {
		var ce *h2conn.CloseError
		switch {
		case errors.As(err, &ce):
			return &SessionError{Code: ce.Code, Reason: oneLine(ce.Reason), Err: err}
		case err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF):
			return &SessionError{Err: err}
		}
	}
	if errors.Is(conn, net.ErrClosed) {
		return &SessionError{Err: errGaveUp}
	}
	return &SessionError{}
}

// closeCode returns the close code that the service sent, or zero.
func (e *SessionError) closeCode() wire.CloseCode { return wire.CloseCode(e.Code) }
