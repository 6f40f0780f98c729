package tunnelclient

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"
)

// A node of several can fall silent without an end of its connections. A session
// gives it up only after PingTimeout, since an answer may just be slow. A stand-in is a
// second session that the client opens before that, beside the first one, which ends
// only if it is dead indeed. It costs the service a registration, so it has to be rare
// where it does not help: see suspicion and standIn.

const (
	// suspectLook is how often a session is looked at while a ping is unanswered, and
	// suspectLooks how often it has to be found silent. A process that stands still
	// does not look, so its own pauses make no suspect of the service.
	suspectLook  = 250 * time.Millisecond
	suspectLooks = 4

	// earlyPing is how long a session has to be silent that was in use before, for a ping
	// of the websocket: HTTP/2 sends none before the interval, so the client would notice
	// the loss of a tunnel in use later than that of others. Idle ones have no more pings
	// than before.
	earlyPing = 2 * time.Second

	// suspectTimes is how much longer than other answers the answer to a ping must
	// take.
	suspectTimes = 3

	// A stand-in's connection has to be there within standInConnect. The first
	// repetition of a lost SYN comes after 1 s, so it says that the network loses
	// packets now, and not that the service is silent.
	standInConnect = 800 * time.Millisecond

	// standInAnswer is how long the service may take then. The connection may lead to
	// the silent node, so there is a second one, which may take standInAnswerLast.
	standInAnswer     = 1250 * time.Millisecond
	standInAnswerLast = 5 * time.Second

	// When a stand-in has not helped, the next one waits, longer each time that the service
	// has had to do with it, until there has been none for standInMax.
	standInFirst = 10 * time.Second
	standInMax   = time.Hour
)

var (
	errHeard     = errors.New("the service has answered meanwhile")
	errNoWay     = errors.New("there is no connection to the service, so the network may be at fault")
	errNoAnswer  = errors.New("the connection is there, but the service does not answer the handshake")
	errUnhelpful = errors.New("a stand-in has not helped a short while ago")
)

// suspicion notices that a session has been silent for longer than its pings are
// usually unanswered.
type suspicion struct {
	s        *session
	interval time.Duration // of silence, after which HTTP/2 sends a ping
	timer    *time.Timer   // of the next look

	// Of this silence.
	heard time.Time    // when it began, as the last look has found it
	early bool         // it is to have an early ping
	pong  *atomic.Bool // whether that has been answered; nil: it has not been sent
	from  time.Time    // a ping has been unanswered for a while then
	looks int          // since then
}

// suspect returns nil if there is no use in a stand-in for s: the service does not say that
// there are other nodes, or nothing is pinged.
func (r *run) suspect(s *session) *suspicion {
	interval := cmp.Or(r.c.cfg.PingInterval, s.pingInterval)
	if s.pingInterval == 0 || interval < 0 {
		return nil
	}
	return &suspicion{s: s, interval: interval, timer: time.NewTimer(suspectLook)}
}

// look is called when the timer fires, and reports whether this is the moment to open a
// stand-in.
func (r *run) look(w *suspicion) bool {
	now, silent := time.Now(), w.s.conn.SilentFor()
	first := suspectLook + r.c.cfg.jitter(2*suspectLook)
	heard, ponged := now.Add(-silent), w.pong != nil && w.pong.Load()
	before := heard.Sub(w.heard)
	fresh := before > time.Millisecond // not just two readings of the clock
	if ponged || fresh && (w.pong != nil || before >= w.interval) {
		r.answers = max(time.Duration(w.looks)*suspectLook, r.answers-r.answers/16)
	}
	if fresh {
		// In an idle session nothing is heard but pings and their answers.
		w.heard, w.early = heard, earlyPing < w.interval && before < w.interval-suspectLook
	}
	if ponged || fresh {
		w.pong, w.from, w.looks = nil, heard.Add(w.interval+first), 0
	}
	next := earlyPing
	if w.early {
		if next = earlyPing - silent; next <= 0 {
			pong := new(atomic.Bool)
			r.wg.Go(func() { _ = w.s.conn.Ping(func() { pong.Store(true) }) }) // an error ends the session
			w.early, w.pong, w.from, next = false, pong, now.Add(first), first
		}
	}
	if rest := w.from.Sub(now); rest > 0 {
		w.timer.Reset(min(next, rest))
		return false
	}
	w.looks++
	w.timer.Reset(suspectLook)
	// It is at once that a session is suspect, or, while that would not be right, not in
	// this silence.
	return w.looks == max(suspectLooks, int(suspectTimes*r.answers/suspectLook))
}

// ended returns a function, for any goroutine, that reports whether something has come
// since.
func (w *suspicion) ended() func() bool {
	conn, silent, pong := w.s.conn, w.s.conn.SilentFor(), w.pong
	return func() bool { return conn.SilentFor() < silent || pong != nil && pong.Load() }
}

// standIn opens a session beside s, that of w, unless s is heard again before the service
// has admitted the new one. If s is alive all the same, it ends when it has done its
// work. If there is no second session, standIn returns nil, and s goes on.
func (r *run) standIn(ctx context.Context, w *suspicion) *session {
	s := w.s
	if r.needless.Swap(false) {
		r.nextStandIn = r.lastStandIn.Add(r.standIns.next())
	}
	if time.Since(r.lastStandIn) > standInMax {
		r.standIns.reset()
	}
	if time.Now().Before(r.nextStandIn) {
		r.log.Debug().Err(errUnhelpful).Msg("the service has not answered a ping")
		return nil
	}
	r.log.Info().Msg("the service has not answered a ping: opening a session beside this one")
	r.lastStandIn = time.Now()
	heard := w.ended()
	attempt, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.wg.Go(func() {
		for sleep(attempt, suspectLook/5) {
			if heard() {
				stop(errHeard)
			}
		}
	})

	next, err := r.beside(ctx, s, func() (*session, error) {
		next, err := r.connectWithin(attempt, max(standInAnswer, 2*s.dialled))
		if errors.Is(err, errNoAnswer) {
			next, err = r.connectWithin(attempt, max(standInAnswerLast, 2*s.dialled))
		}
		return next, err
	})
	if err != nil {
		delay := standInFirst
		if !errors.Is(err, errHeard) && !errors.Is(err, errNoWay) {
			delay = r.standIns.next()
		}
		if re := (*RefusedError)(nil); errors.As(err, &re) {
			delay = max(delay, re.retryAfter)
		}
		r.nextStandIn = time.Now().Add(delay)
		r.log.Info().Err(err).Msg("could not open a session beside the silent one")
		return nil
	}
	if next != nil {
		r.yield(s, next, func() {
			if heard() {
				r.needless.Store(true)
			}
		})
	}
	return next
}

// connectWithin is connect where a connection has to be there at once, and the
// service may take only so long to answer.
func (r *run) connectWithin(ctx context.Context, answer time.Duration) (*session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	within := func(d time.Duration, err error) *time.Timer {
		return time.AfterFunc(d, func() { cancel(err) })
	}
	var way *time.Timer
	dialling := sync.OnceFunc(func() { way = within(standInConnect, errNoWay) })
	connected := sync.OnceFunc(func() {
		dialling()
		way.Stop()
		within(answer, errNoAnswer)
	})
	return r.connect(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { dialling() },
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				connected()
			}
		},
		GotConn: func(httptrace.GotConnInfo) { connected() },
	}))
}
