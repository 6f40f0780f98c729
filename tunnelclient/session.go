package tunnelclient

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// farewellTimeout is how long a session that ends waits for its goaway to be
// taken by the network.
const farewellTimeout = time.Second

// yieldAfter is how long a session must have lived for the one before it to
// be given up: the service takes up to 5 s to find it good.
const yieldAfter = 6 * time.Second

// fetchInterval is how often a source that cannot announce fresh tokens is
// asked for one when the service wants it.
const fetchInterval = 5 * time.Second

// session is one live websocket. Its goroutines are started by run, which
// waits for them.
type session struct {
	// Static after newSession.
	conn  *h2conn.Conn
	url   string
	since time.Time
	log   zerolog.Logger

	dialled     time.Duration // how long the handshake took, with the connection
	attempt     uint64        // the number of its registration
	connections int           // how many websockets the service admits for the tunnel; zero: it does not say

	// As the service asks, which only one of several nodes does; zero: it does not.
	pingInterval, pingTimeout time.Duration

	// Written by the goroutine of run.
	inForce atomic.Pointer[string] // the token, for the sessions beside

	// Owned by the goroutine of run.
	token    string // in force
	yielding bool   // yieldTo runs, or has
	stop     context.CancelFunc

	// Control messages, put here by the goroutine that reads conn, which must
	// not block: each channel holds the newest message.
	goaways chan wire.Control
	answers chan wire.Control

	// fresh carries tokens that are newer than the last one sent.
	fresh chan string

	// done is closed when the session is gone; err is set before.
	done chan struct{}
	err  *SessionError
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
	s.inForce.Store(&token)
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

// putNewest puts m into ch, which has room for one, in place of an older one.
// Only one goroutine may send on ch.
func putNewest(ch chan wire.Control, m wire.Control) {
	select {
	case <-ch:
	default:
	}
	ch <- m
}

// serve answers requests until the session is gone. When ctx ends, the session says
// goodbye and finishes the requests in flight.
func (s *session) serve(ctx context.Context, h http.Handler, cfg h2conn.ServeConfig) {
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
	s.err = newSessionError(h2conn.Serve(life, s.conn, h, cfg), s.conn.Err())
}

// sayGoodbye asks the service for no new requests on this session. The sending
// goroutine, counted in wg, ends at the latest with conn.
func (s *session) sayGoodbye(wg *sync.WaitGroup) {
	sent := make(chan struct{})
	wg.Go(func() {
		defer close(sent)
		s.send(wire.Control{Type: wire.TypeGoaway})
	})
	select {
	case <-sent:
	case <-time.After(farewellTimeout):
	}
}

// yieldTo asks the service for no new requests on s once next has lived a
// little. The service prefers next by itself, if it is the same process: there
// may be several behind one name.
func (s *session) yieldTo(next *session, after time.Duration) {
	select {
	case <-time.After(after):
		s.send(wire.Control{Type: wire.TypeGoaway})
	case <-next.done:
	case <-s.done:
	}
}

// send sends one control message. That it fails means that conn has broken,
// which the end of the session says too.
func (s *session) send(m wire.Control) {
	if err := s.conn.SendControl(m.Encode()); err != nil {
		s.log.Debug().Err(err).Str("type", m.Type).Msg("could not send a control message")
	}
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

// fetchToken sends the newest token of src to s.fresh as soon as it is another
// than current: the service waits for it, but src may need a moment.
func (s *session) fetchToken(ctx context.Context, src TokenSource, current string) {
	for {
		tok, err := newestToken(ctx, src)
		if err != nil || tok != current {
			s.offer(ctx, tok, err)
		}
		if err == nil && tok != current || errors.Is(err, ErrNoToken) || !sleep(ctx, fetchInterval) {
			return
		}
	}
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
