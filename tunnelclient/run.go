package tunnelclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// maxUnauthorized is how often one token may be refused with 401, without
	// the times when it was not valid yet.
	maxUnauthorized = 2

	// maxRetired is how many former sessions may live beside the newest one.
	// It takes a service that never closes any to reach it.
	maxRetired = 4

	// tokenTimeout is how long a source may take for a token that is not the
	// first.
	tokenTimeout = 30 * time.Second

	// leaveAfter is how long after its successor has come a session goes that
	// the service has sent away: the successor is ready by then.
	leaveAfter = time.Second

	// How often the service can send a session away before the next one has to
	// wait. A few restarts in a row are served without a gap.
	replaceEvery = 3 * time.Second
	replaceBurst = 5

	// answerTimeout is how long the service may take to answer a fresh token.
	answerTimeout = 10 * time.Second
)

var (
	errTokenTooLong    = errors.New("the fresh token is too long to send; the old one stays in force")
	errTokenRefused    = errors.New("the service refused the fresh token; the old one stays in force")
	errTokenUnanswered = errors.New("the service did not answer the fresh token; the old one stays in force")
)

// run is one call of Client.Serve. All fields belong to its goroutine, except
// that wg counts the goroutines of sessions, and one of those sets needless.
type run struct {
	c       *Client
	handler http.Handler
	log     zerolog.Logger
	wg      sync.WaitGroup

	retry    backoff // of failed attempts and lost sessions
	young    outage
	replaced backoff // of sessions that a newer registration ended

	replacing *rate.Limiter // of sessions that the service sent away

	moves    backoff   // of sessions that followed a change of the network
	nextMove time.Time // not before that to another one

	answers     time.Duration // how long the slowest of recent answers to pings has taken; zero: not long
	standIns    backoff       // of those that have not helped
	lastStandIn time.Time     // when it was tried
	nextStandIn time.Time     // not before that another one
	needless    atomic.Bool   // the last one: the session before it has been heard again

	retired []*session // asked to be replaced, but perhaps still serving
	joiners []*joiners // of the newest session and former ones

	refusedToken string // the last one answered with 401, …
	refusedCount int    // … and how often
	evictedToken string // in force on a session that ended with 4003
	hadToken     bool   // the source has given one
}

func newRun(c *Client, h http.Handler) *run {
	return &run{
		c:         c,
		handler:   h,
		log:       c.cfg.Logger,
		retry:     backoff{first: retryFirst, max: retryMax, jitter: c.cfg.jitter},
		replaced:  backoff{first: replacedFirst, max: replacedMax, floor: true, jitter: c.cfg.jitter},
		replacing: rate.NewLimiter(rate.Every(replaceEvery), replaceBurst),
		moves:     backoff{first: retryFirst, max: retryMax, jitter: c.cfg.jitter},
		standIns:  backoff{first: standInFirst, max: standInMax, floor: true, jitter: c.cfg.jitter},
	}
}

// pause is what comes between a session or a failed attempt and the next.
type pause struct {
	delay  time.Duration
	least  time.Duration // the part of delay that the service asked for
	reason string
	err    error
}

// serve runs the tunnel. When it returns, all sessions are gone.
func (r *run) serve(ctx context.Context) error {
	if !r.c.encrypted() {
		r.log.Warn().Msg("the service's URL is not https: the token travels in clear text")
	}
	sessions, stop := context.WithCancel(ctx)
	defer r.wg.Wait()
	defer stop()
	err := r.loop(sessions)
	r.prune()
	if ctx.Err() != nil || len(r.retired) > 0 {
		r.log.Debug().Msg("finishing requests in flight")
		r.report(State{Phase: PhaseDraining, Reason: "shutting down", Err: err})
	}
	return err
}

// loop connects, watches the session until it is time for another, and so on,
// until ctx ends or an error is final.
func (r *run) loop(ctx context.Context) error {
	var p pause
	for {
		if !r.pause(ctx, p) {
			return nil
		}
		s, err := r.connect(ctx)
		switch {
		case ctx.Err() != nil:
			if s != nil {
				s.conn.Close()
			}
			return nil
		case err != nil && final(err, r.refusedCount):
			return err
		case err != nil:
			r.prune()
			p = r.failed(err)
			continue
		}
		for s != nil {
			r.start(ctx, s)
			if s, p, err = r.watch(ctx, s); err != nil || ctx.Err() != nil {
				return err
			}
		}
	}
}

// pause waits, and reports whether ctx is still alive then.
func (r *run) pause(ctx context.Context, p pause) bool {
	if p.delay <= 0 {
		return ctx.Err() == nil
	}
	begun := time.Now()
	beside := len(r.retired) > 0
	r.reportPause(p, begun.Add(p.delay))
	t := time.NewTimer(p.delay)
	defer t.Stop()
	for {
		var gone <-chan struct{}
		switch r.prune(); {
		case len(r.retired) > 0:
			gone = r.retired[0].done
		case beside:
			beside = false
			passed := time.Since(begun)
			left := min(p.delay-passed, max(r.retryDelay(), p.least-passed))
			t.Reset(left)
			r.log.Info().Stringer("retry_in", left.Round(time.Millisecond)).Msg("the former session ended")
			r.reportPause(p, time.Now().Add(left))
		}
		select {
		case <-t.C:
			return ctx.Err() == nil
		case <-ctx.Done():
			return false
		case <-gone:
		}
	}
}

func (r *run) reportPause(p pause, next time.Time) {
	st := State{Phase: PhaseWaiting, Reason: p.reason, Err: p.err, Next: next}
	if r.prune(); len(r.retired) > 0 {
		st.Phase = PhaseDraining
	}
	r.report(st)
}

// An outage bounds the waits of its beginning.
type outage struct {
	bound time.Duration
	until time.Time // zero before the first session
}

// down notes that the tunnel is down, after a session that lived that long. One that did
// not live long does not count as an end of the outage before it.
func (r *run) down(lived time.Duration) {
	now := time.Now()
	switch {
	case r.retry.fresh():
		r.young = outage{shortOutageWait, now.Add(shortOutage)}
	case lived >= retryBrief:
		r.young = outage{lived, now.Add(retryLived)}
	}
}

// retryDelay returns the next wait of the curve of retries.
func (r *run) retryDelay() time.Duration {
	if time.Now().Before(r.young.until) {
		return r.retry.nextWithin(r.young.bound)
	}
	return r.retry.next()
}

// connect gets a token and opens a session with it. A newer token than the one
// that was refused or evicted is a new chance.
func (r *run) connect(ctx context.Context) (*session, error) {
	r.prune()
	if len(r.retired) == 0 {
		r.report(State{Phase: PhaseConnecting})
	}
	tok, err := r.token(ctx)
	if err != nil {
		return nil, err
	}
	if tok == r.evictedToken {
		return nil, &RefusedError{CloseCode: int(wire.CloseEvicted)}
	}
	if tok != r.refusedToken {
		r.refusedToken, r.refusedCount = "", 0
	}
	s, err := r.c.dial(ctx, tok, 0)
	var re *RefusedError
	if errors.As(err, &re) && re.Status == http.StatusUnauthorized && !re.notYetValid() {
		r.refusedToken = tok
		r.refusedCount++
	}
	return s, err
}

// token asks for the newest token. The first one may take as long as it likes;
// later a source that hangs must not keep the tunnel down, or a session unserved.
func (r *run) token(ctx context.Context) (string, error) {
	if !r.hadToken {
		tok, err := newestToken(ctx, r.c.cfg.Tokens)
		r.hadToken = err == nil
		return tok, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, tokenTimeout, fmt.Errorf("the source has not answered within %v", tokenTimeout))
	defer cancel()
	return newestToken(ctx, r.c.cfg.Tokens)
}

// final reports whether err is one that a retry cannot help.
func final(err error, unauthorized int) bool {
	var re *RefusedError
	if !errors.As(err, &re) {
		return errors.Is(err, ErrNoToken)
	}
	switch {
	case re.CloseCode == int(wire.CloseEvicted):
		return true
	case re.Status == http.StatusUnauthorized:
		return unauthorized >= maxUnauthorized && !re.notYetValid()
	}
	return re.Status == http.StatusBadRequest
}

// failed says how long to wait after an attempt that failed with err.
func (r *run) failed(err error) pause {
	p := pause{delay: r.retryDelay(), reason: "the attempt failed", err: err}
	var re *RefusedError
	if errors.As(err, &re) && re.retryAfter > 0 {
		// All clients of the service may have been told the same: spread.
		spread := r.c.cfg.jitter(max(re.retryAfter/2, time.Second))
		p.least = re.retryAfter
		p.delay = max(p.delay, re.retryAfter+spread)
	}
	r.log.Warn().Err(err).Stringer("retry_in", p.delay.Round(time.Millisecond)).Msg("could not connect")
	return p
}

// start serves s in goroutines of its own until it is gone or ctx ends.
func (r *run) start(ctx context.Context, s *session) {
	r.refusedToken, r.refusedCount = "", 0
	r.c.setURL(s.url)
	ctx, s.stop = context.WithCancel(ctx)
	r.wg.Go(func() {
		defer s.stop()
		s.serve(ctx, r.handler, r.c.cfg.sessionConfig(s))
	})
	for _, old := range r.retired {
		if !old.yielding {
			old.yielding = true
			r.wg.Go(func() { old.yieldTo(s, leaveAfter) })
		}
	}
	r.log.Info().Str("url", s.url).Msg("connected")
	r.report(State{Phase: PhaseConnected})
}

// watch takes care of s until it is time to dial again: because s has ended,
// or because the service asked for a new session, in which case s goes on. If
// there is a new session already, watch returns that. An error is final.
func (r *run) watch(ctx context.Context, s *session) (*session, pause, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	r.widen(ctx, watching, s)
	if u, ok := r.c.cfg.Tokens.(TokenUpdater); ok {
		sent := s.token
		r.wg.Go(func() { s.watchTokens(watching, u, sent) })
	}
	var (
		pending  string           // sent, not yet answered
		overdue  <-chan time.Time // pending should have been answered
		expiring bool             // the service said that the token in force runs out
		checks   <-chan time.Time // of the network
		moved    bool             // there was an attempt from another network
	)
	way := watchNetwork(r.c.cfg.network, s.conn.LocalAddr(), s.conn.RemoteAddr())
	if way != nil {
		t := time.NewTicker(networkCheck)
		defer t.Stop()
		checks = t.C
	}
	var looks <-chan time.Time // at whether pings are answered
	silence := r.suspect(s)
	if silence != nil {
		defer silence.timer.Stop()
		looks = silence.timer.C
	}
	for {
		fresh := s.fresh
		if pending != "" {
			fresh = nil // one at a time
		}
		var failed error // of a refresh
		select {
		case <-ctx.Done():
			return nil, pause{}, nil

		case <-s.done:
			p, err := r.ended(ctx, s)
			return nil, p, err

		case <-checks:
			if !way.check() || time.Now().Before(r.nextMove) {
				continue
			}
			if !moved { // once, or an attempt that failed would not count
				r.lived(s)
				moved = true
			}
			if next := r.move(ctx, s); next != nil {
				return next, pause{}, nil
			}

		case <-looks:
			if !r.look(silence) {
				continue
			}
			if next := r.standIn(ctx, silence); next != nil {
				return next, pause{}, nil
			}

		case m := <-s.goaways:
			if m.Reason != wire.ReasonExpired {
				return nil, r.replace(s, m.ReconnectAfter(), "the service asked for a new session: "+oneLine(m.Reason)), nil
			}
			if expiring {
				continue // that is under way
			}
			r.log.Info().Msg("the service says that the token runs out")
			expiring = true
			current := s.token
			r.wg.Go(func() { s.fetchToken(watching, r.c.cfg.Tokens, current) })

		case tok := <-fresh:
			if tok == s.token {
				continue
			}
			if m := (wire.Control{Type: wire.TypeToken, Token: tok}); len(m.Encode()) <= wire.MaxControlMessage {
				pending, overdue = tok, time.After(answerTimeout)
				r.wg.Go(func() { s.send(m) })
				continue
			}
			failed = errTokenTooLong

		case m := <-s.answers:
			if pending != "" && *m.OK {
				taken := pending
				s.token, expiring = taken, false
				s.inForce.Store(&taken)
				r.log.Info().Msg("the service took the fresh token")
			} else if pending != "" {
				failed = errTokenRefused // perhaps it came too late for this session
			}
			pending, overdue = "", nil

		case <-overdue:
			pending, overdue = "", nil
			failed = errTokenUnanswered
		}
		if failed == nil {
			continue
		}
		r.log.Warn().Err(failed).Msg("could not refresh the token")
		r.report(State{Phase: PhaseConnected, Err: failed})
		if expiring {
			return nil, r.replace(s, 0, "the token runs out"), nil
		}
	}
}

// replace keeps s for its requests in flight while the next session is opened.
func (r *run) replace(s *session, delay time.Duration, reason string) pause {
	r.lived(s)
	least := delay
	if wait := r.replacing.Reserve().Delay(); wait > delay {
		delay = wait
	}
	r.log.Info().Str("reason", reason).Stringer("connect_in", delay.Round(time.Millisecond)).Msg("replacing the session")
	r.retire(s)
	if delay == 0 {
		r.report(State{Phase: PhaseDraining, Reason: reason})
	}
	return pause{delay: delay, least: least, reason: reason}
}

// retire keeps s beside the session that takes its place.
func (r *run) retire(s *session) {
	r.retired = append(r.retired, s)
	for i := range len(r.retired) - maxRetired {
		r.retired[i].stop()
	}
}

// move opens a session on the network that this machine has changed to, and
// lets s end when it has done its work. If that fails, move returns nil and s
// goes on as if nothing had happened: its network may still be good, or come
// back. Networks that come and go are followed at the pace of the back-off.
func (r *run) move(ctx context.Context, s *session) *session {
	r.log.Info().Msg("the network has changed: replacing the session")
	next, err := r.beside(ctx, s, func() (*session, error) { return r.connect(ctx) })
	if err != nil {
		r.nextMove = time.Now().Add(r.failed(err).delay)
		if s.gone() {
			return nil // which is reported next
		}
		r.report(State{Phase: PhaseConnected, Reason: "the network has changed", Err: err, Next: r.nextMove})
		return nil
	}
	if next != nil {
		r.nextMove = time.Now().Add(r.moves.next())
		r.yield(s, next, func() {})
	}
	return next
}

// beside calls open for a session beside s, which serves meanwhile, so that the attempt is
// no change of state. What answers it may be no service at all, so its refusal does not
// count. When ctx is over there is neither a session nor an error.
func (r *run) beside(ctx context.Context, s *session, open func() (*session, error)) (*session, error) {
	r.retired = append(r.retired, s)
	next, err := open()
	r.retired = slices.DeleteFunc(r.retired, func(old *session) bool { return old == s })
	switch {
	case ctx.Err() != nil:
		if next != nil {
			next.conn.Close()
		}
		return nil, nil
	case err != nil:
		r.refusedToken, r.refusedCount = "", 0
		return nil, err
	}
	return next, nil
}

// yield lets s, which next has taken the place of, end when it has done its work, and then
// calls done in another goroutine.
func (r *run) yield(s, next *session, done func()) {
	r.retire(s)
	s.yielding = true
	r.wg.Go(func() {
		s.yieldTo(next, yieldAfter)
		done()
	})
}

// ended says how long to wait after s has ended, or that there is no sense in
// another attempt.
func (r *run) ended(ctx context.Context, s *session) (pause, error) {
	if ctx.Err() != nil {
		return pause{}, nil
	}
	r.down(r.lived(s))
	p := pause{reason: "the session ended", err: s.err}
	switch s.err.closeCode() {
	case wire.CloseReplaced:
		p.delay = r.replaced.next()
	case wire.CloseEvicted:
		r.evictedToken = s.token
		// Say so now rather than after the wait.
		if tok, err := r.token(ctx); err == nil && tok == s.token {
			return p, evicted(s.err)
		}
		p.delay = r.retryDelay()
	default:
		p.delay = r.retryDelay()
	}
	r.log.Warn().Err(s.err).
		Stringer("lived", time.Since(s.since).Round(100*time.Millisecond)).
		Stringer("retry_in", p.delay.Round(time.Millisecond)).
		Msg("the session ended")
	return p, nil
}

// lived returns how long s has lived, and starts the curves of waits again if that was
// long enough.
func (r *run) lived(s *session) time.Duration {
	d := time.Since(s.since)
	if d >= retryLived {
		r.retry.reset()
	}
	if d >= movedLived {
		r.moves.reset()
	}
	if d >= replacedLived {
		r.replaced.reset()
	}
	return d
}

// prune forgets the retired sessions that are gone. How they ended does not
// matter, unless an operator did it. With the last of them, which still served,
// the tunnel is down, and the curve of retries starts again.
func (r *run) prune() {
	beside := len(r.retired) > 0
	live := r.retired[:0]
	for _, s := range r.retired {
		if !s.gone() {
			live = append(live, s)
			continue
		}
		r.log.Debug().Err(s.err).Msg("a former session ended")
		if s.err.closeCode() == wire.CloseEvicted {
			r.evictedToken = s.token
		}
	}
	clear(r.retired[len(live):])
	r.retired = live
	if beside && len(live) == 0 {
		r.retry.reset()
		r.down(0)
	}
}

// report tells the hook.
func (r *run) report(st State) {
	if hook := r.c.cfg.OnStateChange; hook != nil {
		r.c.mu.Lock()
		st.URL = r.c.url
		r.c.mu.Unlock()
		hook(st)
	}
}
