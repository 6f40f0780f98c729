package tunnelclient

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// maxConnections is the most that Config.Connections may be.
	maxConnections = 8

	// joinSpread spreads the first attempts to join a session, which should not come
	// before the service has found that good.
	joinSpread = 200 * time.Millisecond

	// How long the next attempt waits after one that was refused, or after a session
	// that did not last: a balancer may never lead to the right node.
	joinFirst = time.Second
	joinMax   = 5 * time.Minute
)

// joiners are the sessions that join one session, so that the tunnel has
// several websockets. They have goroutines of their own, and no state that hooks see: the
// tunnel is up as long as the session is that they join. They open no more when run does
// not watch that any longer; what is open then serves until the service ends it.
type joiners struct {
	c       *Client
	handler http.Handler
	log     zerolog.Logger
	of      *session

	wg   sync.WaitGroup
	stop context.CancelFunc // ends its sessions, in good order
	done chan struct{}      // closed when all are gone
}

// widen opens the sessions that join s, as many as Config.Connections and the service
// admit. They open until opening ends, and live until ctx does.
func (r *run) widen(ctx, opening context.Context, s *session) {
	n := min(r.c.cfg.Connections, max(s.connections, 1))
	if n < r.c.cfg.Connections {
		r.log.Info().Int("connections", n).Msg("the service admits no more websockets for the tunnel")
	}
	if n < 2 {
		return
	}
	w := &joiners{c: r.c, handler: r.handler, log: r.log, of: s, done: make(chan struct{})}
	ctx, w.stop = context.WithCancel(ctx)
	for range n - 1 {
		w.wg.Go(func() { w.keep(ctx, opening) })
	}
	r.wg.Go(func() {
		defer close(w.done)
		defer w.stop()
		w.wg.Wait()
	})
	r.keepJoiners(w)
}

// keepJoiners adds w, and stops those of sessions that came long before.
func (r *run) keepJoiners(w *joiners) {
	live := r.joiners[:0]
	for _, o := range r.joiners {
		select {
		case <-o.done:
		default:
			live = append(live, o)
		}
	}
	clear(r.joiners[len(live):])
	r.joiners = append(live, w)
	for i := range len(r.joiners) - 1 - maxRetired {
		r.joiners[i].stop()
	}
}

// keep has one session of w open, one after the other, until opening ends or the
// service wants none.
func (w *joiners) keep(ctx, opening context.Context) {
	waits := backoff{first: joinFirst, max: joinMax, floor: true, jitter: w.c.cfg.jitter}
	delay := w.of.dialled + w.c.cfg.jitter(joinSpread)
	for told := false; sleep(opening, delay); {
		token := *w.of.inForce.Load()
		s, err := w.c.dial(opening, token, w.of.attempt)
		if opening.Err() != nil {
			if s != nil {
				s.conn.Close()
			}
			return
		}
		if err != nil {
			var re *RefusedError
			refused := errors.As(err, &re)
			level := zerolog.DebugLevel
			if !told {
				told, level = true, zerolog.InfoLevel
			}
			w.log.WithLevel(level).Err(err).Msg("could not open a further websocket")
			if refused && re.Status == http.StatusBadRequest ||
				refused && re.Status == http.StatusUnauthorized && !w.newerToken(opening, token, nil) {
				return
			}
			if delay = waits.next(); refused {
				delay = max(delay, re.retryAfter)
			}
			continue
		}
		w.log.Debug().Msg("further websocket is open")
		serving, stop := context.WithCancel(ctx)
		w.wg.Go(func() {
			defer stop()
			s.serve(serving, w.handler, w.c.cfg.sessionConfig(s))
		})
		least, again := w.await(opening, s)
		if !again {
			return
		}
		if time.Since(s.since) >= retryLived {
			waits.reset()
			told = false
		}
		delay = max(least, waits.next())
	}
}

// await returns when s is to have a successor, after a wait of least, and reports false
// if it is to have none.
func (w *joiners) await(opening context.Context, s *session) (least time.Duration, again bool) {
	for {
		select {
		case <-opening.Done():
			return 0, false
		case <-s.done:
			w.log.Debug().Err(s.err).Msg("a further websocket has ended")
			return 0, s.err.closeCode() != wire.CloseEvicted
		case m := <-s.goaways:
			if m.Reason == wire.ReasonExpired && !w.newerToken(opening, s.token, s.done) {
				continue
			}
			s.send(wire.Control{Type: wire.TypeGoaway}) // it makes room for the next one
			return m.ReconnectAfter(), true
		}
	}
}

// newerToken waits until the session that w joins has a newer token than that, and reports
// whether it has. It returns when done is closed, too.
func (w *joiners) newerToken(opening context.Context, token string, done <-chan struct{}) bool {
	for *w.of.inForce.Load() == token {
		select {
		case <-time.After(fetchInterval):
		case <-done:
			return false
		case <-opening.Done():
			return false
		}
	}
	return true
}
