package tunnelclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// farewellTimeout is how long a session that ends waits for its goaway to be
// taken by the network.
const farewellTimeout = time.Second

// session is one live websocket. Its goroutines are started by run, which
// waits for them.
type session struct {
	// Static after newSession.
	conn  *h2conn.Conn
	url   string
	since time.Time
	log   zerolog.Logger

	// Owned by the goroutine of run.
	token string // in force
	stop  context.CancelFunc

	// Control messages, put here by the goroutine that reads conn, which must
	// not block: each channel holds the newest message.
	goaways chan wire.Control
	answers chan wire.Control

	// fresh carries tokens that are newer than the last one sent.
	fresh chan string

	// done is closed when the session is gone; err is set before.
	done chan struct{}
	err  error
}

func newSession(conn *h2conn.Conn, url, token string, log zerolog.Logger) *session {
	s := &session{
		conn:    conn,
		url:     url,
		since:   time.Now(),
		log:     log,
		token:   token,
		goaways: make(chan wire.Control, 1),
		answers: make(chan wire.Control, 1),
		fresh:   make(chan string),
		done:    make(chan struct{}),
	}
	conn.OnControl(s.control)
	return s
}

// control takes one control message from the service.
func (s *session) control(b []byte) {
	m, err := wire.ParseControl(b)
	if err != nil {
		s.log.Debug().Err(err).Msg("ignored a control message")
		return
	}
	switch m.Type {
	case wire.TypeGoaway:
		putNewest(s.goaways, m)
	case wire.TypeToken:
		if m.OK != nil {
			putNewest(s.answers, m)
		}
	}
}

// putNewest puts m into ch, which has room for one, in place of what is there.
// Only one goroutine may send on ch.
func putNewest(ch chan wire.Control, m wire.Control) {
	select {
	case <-ch:
	default:
	}
	ch <- m
}

// serve answers requests until the session is gone. When ctx ends, the
// session says goodbye and finishes what is in flight.
func (s *session) serve(ctx context.Context, h http.Handler, cfg h2conn.Config) {
	defer close(s.done)
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	over := make(chan struct{})
	defer close(over)
	wg.Go(func() {
		select {
		case <-ctx.Done():
			s.sayGoodbye(&wg)
			end()
		case <-over:
		}
	})
	s.err = newEndError(h2conn.Serve(life, s.conn, h, cfg), s.conn.Err())
}

// sayGoodbye asks the service for no new requests on this session. The sending
// goroutine, counted in wg, ends at the latest with conn.
func (s *session) sayGoodbye(wg *sync.WaitGroup) {
	sent := make(chan struct{})
	wg.Go(func() {
		defer close(sent)
		s.send(wire.Control{Type: wire.TypeGoaway})
	})
	t := time.NewTimer(farewellTimeout)
	defer t.Stop()
	select {
	case <-sent:
	case <-t.C:
	}
}

// send sends one control message. That it fails means that conn has broken,
// which the end of the session says too.
func (s *session) send(m wire.Control) {
	if err := s.conn.SendControl(m.Encode()); err != nil {
		s.log.Debug().Err(err).Str("type", m.Type).Msg("could not send a control message")
	}
}

// endError is why a session ended.
type endError struct {
	text  string
	cause error // nil if unknown
}

func (e *endError) Error() string { return e.text }
func (e *endError) Unwrap() error { return e.cause }

// newEndError makes an endError of what h2conn.Serve returned and of what the
// Conn says. It is never nil.
func newEndError(serve, conn error) error {
	for _, err := range []error{serve, conn} {
		var ce *h2conn.CloseError
		switch {
		case errors.As(err, &ce):
			text := fmt.Sprintf("the service closed the session: %s (close code %d)", wire.CloseCode(ce.Code), ce.Code)
			if reason := oneLine(ce.Reason); reason != "" {
				text += ": " + reason
			}
			return &endError{text, err}
		case err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF):
			return &endError{"the connection to the service broke: " + err.Error(), err}
		}
	}
	return &endError{"the connection to the service was lost", nil}
}

// closeCode returns the close code that the service sent, or zero.
func closeCode(err error) wire.CloseCode {
	var ce *h2conn.CloseError
	if errors.As(err, &ce) {
		return wire.CloseCode(ce.Code)
	}
	return 0
}

// gone reports whether the session has ended.
func (s *session) gone() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// watchTokens sends to s.fresh every token of u that is newer than sent, until
// ctx ends.
func (s *session) watchTokens(ctx context.Context, u TokenUpdater, sent string) {
	for {
		tok, err := u.NextToken(ctx, sent)
		if err == nil && tok == sent {
			err = errors.New("NextToken returned the current token")
		}
		if err != nil {
			if ctx.Err() == nil {
				s.log.Debug().Err(err).Msg("no further tokens")
			}
			return
		}
		sent = tok
		s.offer(ctx, tok, nil)
	}
}

// fetchToken sends the newest token of src to s.fresh.
func (s *session) fetchToken(ctx context.Context, src TokenSource) {
	tok, err := newestToken(ctx, src)
	s.offer(ctx, tok, err)
}

func (s *session) offer(ctx context.Context, tok string, err error) {
	if err == nil {
		tok, err = cleanToken(tok)
	}
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn().Err(err).Msg("cannot use the fresh token")
		}
		return
	}
	select {
	case s.fresh <- tok:
	case <-ctx.Done():
	}
}
