package tunnelclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// maxTokenBytes is the length of the longest token that a source reads.
const maxTokenBytes = 64 << 10

// ErrNoToken is what a [TokenSource] returns, possibly wrapped, when it has no
// token and will never have one. [Client.Serve] then gives up; any other error
// of a source is retried.
var ErrNoToken = errors.New("no token was given")

// A TokenSource gives the token with which a tunnel client registers.
type TokenSource interface {
	// Token returns the newest token. It may block until there is one; ctx
	// bounds the call. It is called before every attempt to connect, by one
	// goroutine at a time for each [Client].
	Token(ctx context.Context) (string, error)
}

// A TokenUpdater is a [TokenSource] that notices by itself when there is a
// fresh token. A [Client] then sends that over its live session, so that the
// tunnel goes on without a new connection.
type TokenUpdater interface {
	TokenSource

	// NextToken blocks until the newest token is another than current, and
	// returns it. It returns an error when ctx ends or when the source will
	// never have another token. It may be called concurrently with Token and
	// with itself.
	NextToken(ctx context.Context, current string) (string, error)
}

// StaticToken is a [TokenSource] with one token for ever. Printing a
// StaticToken does not show it.
type StaticToken string

var _ TokenSource = StaticToken("")

// Token returns the token, or [ErrNoToken] if it is empty.
func (t StaticToken) Token(context.Context) (string, error) {
	if t == "" {
		return "", ErrNoToken
	}
	return string(t), nil
}

// String does not return the token.
func (t StaticToken) String() string { return "(token not shown)" }

// GoString does not return the token.
func (t StaticToken) GoString() string { return "tunnelclient.StaticToken(not shown)" }

// TokenFunc is a [TokenSource] that calls a function, for example to have a
// token made for each attempt.
type TokenFunc func(ctx context.Context) (string, error)

var _ TokenSource = TokenFunc(nil)

// Token calls f.
func (f TokenFunc) Token(ctx context.Context) (string, error) { return f(ctx) }

// newestToken asks src for its token and checks that it can stand in a header.
// It returns when ctx ends, also if src does not.
func newestToken(ctx context.Context, src TokenSource) (string, error) {
	type answer struct {
		tok string
		err error
	}
	got := make(chan answer, 1)
	go func() { // which a source that ignores ctx keeps
		tok, err := src.Token(ctx)
		got <- answer{tok, err}
	}()
	select {
	case a := <-got:
		if a.err != nil {
			return "", fmt.Errorf("getting a token: %w", a.err)
		}
		return cleanToken(a.tok)
	case <-ctx.Done():
		return "", fmt.Errorf("getting a token: %w", context.Cause(ctx))
	}
}

// cleanToken trims tok and returns an error, which does not quote it, if it
// cannot be a token. It never judges what the token says.
func cleanToken(tok string) (string, error) {
	tok = strings.TrimSpace(tok)
	if tok == "" {
		return "", errors.New("the token is empty")
	}
	if i := strings.IndexFunc(tok, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		return "", fmt.Errorf("the token has a space, control or non-ASCII character at position %d of %d", i, len(tok))
	}
	return tok, nil
}
