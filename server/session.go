package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// slotWait is how long a request waits when its tunnel is at its
	// request limit.
	slotWait = 5 * time.Second

	// headWait is how long a request that has a slot may wait until its header
	// is sent: for ever, if the tunnel client takes back the streams that it
	// admitted. A connection that takes no bytes ends before.
	headWait = 15 * time.Second

	// minStreams is how many concurrent streams a tunnel client has to admit.
	minStreams = 16
)

var (
	errRetired = errors.New("the session takes no new requests")
	errBusy    = errors.New("the tunnel is at its request limit")

	errFewStreams = fmt.Errorf("at least %d concurrent streams are required", minStreams)
)

// session is one live websocket of a tunnel: session_state.go has its life. The
// registration that made it owns it while it starts, and run from then on: the owner
// alone closes the connection. Anyone may ask for that, by leave, retire or cut.
type session struct {
	// Static after construction.
	srv    *Server
	id     string
	label  label
	remote string
	since  time.Time
	conn   *h2conn.Conn
	memory *budget.Holding
	turn   *turn // of the connection; nil if Serve has not accepted it

	passesBarePath bool           // to its target: see viewer_bare.go
	origin         cluster.Origin // what the client says of its registration
	joined         bool           // the session of an earlier registration, as it asked: session_beside.go

	// Static from start on, which is before others know the session.
	tr       *h2conn.Transport
	admitted int        // streams that the tunnel client admits
	slots    *fairQueue // one for each request in flight; those of the session that it has joined

	retired chan struct{} // closed when the session takes no requests any more, for those that wait for a slot
	running atomic.Int32  // whether there is a goroutine in run

	clientLeaves atomic.Bool // the client has sent the control message goaway
	stopped      atomic.Bool // by which it has asked for the session's end

	traffic   traffic
	roundTrip atomic.Int64 // time that the client took to answer the last ping

	// Owned by run.
	timer      *time.Timer     // of the next step; nil before the first
	sent       <-chan struct{} // closed when the control messages that are being sent have been; nil: there are none
	handedOver bool            // the client has sent a GOAWAY frame, and that has been seen to
	asked      bool            // the client has been asked for a fresh token
	refusals   int             // refused fresh tokens

	mu        sync.Mutex
	state     state
	giveUp    func()         // while starting: ends the wait of start
	code      wire.CloseCode // why it ends; 0 while it does not, or if its connection broke
	fault     string         // what the client has done wrong, if that is why
	notBefore time.Time      // while leaving: not to be closed before that, however idle
	closeBy   time.Time      // while leaving or draining: when requests in flight are cut
	grant     grant
	inbox     []wire.Control // from the client, for run to answer
	outbox    []wire.Control // for run to send
	inFlight  int
}

// newSession makes the session of g.id on conn, which memory is charged for. It hears control messages from
// now on. giveUp has to end the wait of start, and must not block.
func newSession(srv *Server, conn *h2conn.Conn, g grant, memory *budget.Holding, remote string, giveUp func()) *session {
	s := &session{
		srv: srv, id: g.id, label: labelOf(g.id), remote: remote, since: time.Now(), conn: conn, giveUp: giveUp, grant: g, memory: memory,
		retired: make(chan struct{}),
		traffic: traffic{all: &srv.traffic},
	}
	conn.OnControl(s.onControl)
	conn.OnDone(s.notify)
	// HTTP/2 closes the connection by itself after the client has broken its
	// rules.
	conn.SetCloseReason(int(wire.CloseProtocol), "HTTP/2 connection error")
	return s
}

// log returns a logger for lines about the session. It keeps none, for lines are rare.
func (s *session) log() *zerolog.Logger { return s.logUpTo(linesPerSecond - 1) }

// logUpTo is log with at most limit lines within a second about the tunnel.
func (s *session) logUpTo(limit int) *zerolog.Logger {
	log := s.srv.lines.of(s.label).limited(tunnelLog(s.srv.log, s.remote, s.id), limit)
	return &log
}

// tunnelLog returns log for lines about the tunnel id, whose client is at remote.
func tunnelLog(log zerolog.Logger, remote, id string) zerolog.Logger {
	return log.With().Str("remote", remote).Str("id", id).Logger()
}

// start begins HTTP/2 and returns when the client has answered a ping, which
// proves that it is there and that its settings are known.
func (s *session) start(ctx context.Context) error {
	cfg := s.srv.live.Load().tunnelConfig()
	cfg.PingAnswered, cfg.GoneAway = s.pingAnswered, s.notify
	cfg.Memory = (&unreadData{of: s.memory, done: s.conn.Done()}).memory()
	tr, err := h2conn.NewTransport(s.conn, cfg)
	if err != nil {
		return err
	}
	s.tr = tr
	if err := tr.Ping(ctx); err != nil {
		return err
	}
	s.admitted = math.MaxInt32
	if n, ok := tr.MaxConcurrentStreams(); ok {
		if n < minStreams {
			return fmt.Errorf("the tunnel client admits %d: %w", n, errFewStreams)
		}
		s.admitted = int(min(n, math.MaxInt32))
	}
	s.slots = newFairQueue(s.streams(), maxWaiting)
	return nil
}

// streams returns how many requests the session may carry at a time.
func (s *session) streams() int { return min(s.srv.live.Load().MaxStreams, s.admitted) }

// resize gives the session the slots that it may have now.
func (s *session) resize() {
	if !s.joined {
		s.slots.resize(s.streams)
	}
}

// pingAnswered is called by the goroutine that reads, and must not block.
func (s *session) pingAnswered(took time.Duration) {
	s.roundTrip.Store(int64(took))
	s.srv.cfg.Metrics.ping(took)
}

// abandon closes a session that has not come into service.
func (s *session) abandon(code wire.CloseCode, fault string) {
	s.enter(stateClosing, code, fault)
	if code == wire.CloseProtocol {
		s.turn.slowDown()
	}
	s.conn.Close()
	s.memory.Release()
	s.enter(stateEnded, 0, "")
}

// Values of session.running. An idle session has no goroutine, which would cost each
// tunnel as much memory as all else that this package has of it.
const (
	running int32 = iota // there is one; or there will be, when the session has been published
	again                // there is one, and it is to look again
	resting              // there is none
)

// notify has run look at what is due.
func (s *session) notify() {
	for {
		switch s.running.Load() {
		case running:
			if s.running.CompareAndSwap(running, again) {
				return
			}
		case again:
			return
		case resting:
			if s.running.CompareAndSwap(resting, running) {
				go s.run()
				return
			}
		}
	}
}

// run does what is due: it answers control messages, minds the token's expiry, and closes
// the connection. There is one at a time, from the session's publication on, whenever
// notify or the timer has asked for it. The last one has seen to the session's end.
func (s *session) run() {
	for {
		if s.look() {
			s.srv.registry.running.Done()
			return
		}
		if s.running.CompareAndSwap(running, resting) {
			return
		}
		s.running.Store(running)
	}
}

// look does what is due now, and reports whether the session has ended.
func (s *session) look() (ended bool) {
	select {
	case <-s.tr.GoneAway():
		if !s.handedOver {
			s.handedOver = true
			s.handOver()
		}
	default:
	}
	select {
	case <-s.tr.Done():
		s.ending()
		return true
	case <-s.sent:
		s.sent = nil
	default:
	}
	if s.sent == nil { // otherwise answers pile up for a client that takes none
		s.handleControls()
		s.sent = s.send()
	}
	next, done := s.step(s.sent != nil)
	switch {
	case done:
		s.tr.Close()
		s.ending()
		return true
	case s.timer == nil:
		s.timer = time.AfterFunc(next, s.notify)
	default:
		s.timer.Reset(next)
	}
	return false
}

// ending is what follows when the connection is gone.
func (s *session) ending() {
	if s.timer != nil {
		s.timer.Stop()
	}
	if s.sent != nil {
		<-s.sent // soon, without a connection
	}
	select {
	case <-s.tr.GoneAway(): // the last request has ended right behind it
		if !s.handedOver {
			s.handOver()
		}
	default:
	}
	s.srv.registry.move(s, stateEnded, 0, "")
	s.srv.registry.settleDebt(s, !errors.Is(s.tr.Err(), net.ErrClosed))
	s.noteEnd()
	s.memory.Release()
}

// step takes the steps that are due. It returns how long until the next one is, or
// that the connection is to be closed now. It is told whether control messages are
// being sent.
func (s *session) step(sending bool) (next time.Duration, done bool) {
	s.mu.Lock()
	st, notBefore, closeBy, expires := s.state, s.notBefore, s.closeBy, s.grant.expires
	idle := s.inFlight == 0 && !sending && len(s.outbox) == 0
	s.mu.Unlock()
	switch st {
	case stateLeaving:
		if idle && notBefore.Before(closeBy) {
			closeBy = notBefore
		}
		if next = time.Until(closeBy); next <= 0 {
			// One step more, for the request that may begin at this moment.
			s.retire(wire.CloseDraining)
		}
		return next, false
	case stateDraining:
		next = time.Until(closeBy)
		return next, idle || next <= 0
	case stateClosing:
		return 0, true
	}
	return s.checkExpiry(expires), false
}

// checkExpiry asks the client for a fresh token when the one in force, which
// expires then, has run out, and later retires the session. It returns when to
// look again.
func (s *session) checkExpiry(expires time.Time) time.Duration {
	const idle = time.Hour
	if s.srv.live.Load().IgnoreTokenExpiry {
		return idle
	}
	left := expires.Sub(s.srv.cfg.now())
	switch {
	case left > 0:
		s.asked = false
		return min(left, idle)
	case left > -tokenLeeway:
		if !s.asked {
			s.asked = true
			// Last chance: the client may answer with a fresh token.
			s.mu.Lock()
			s.sendLocked(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
			s.mu.Unlock()
		}
		return left + tokenLeeway
	}
	s.log().Info().Str(logevent.Field, logevent.Expired).Msg("token expired and no fresh one came: session drains")
	s.retire(wire.CloseTokenExpired)
	return 0
}

// begin admits one request of from. If it returns nil, end has to follow. It waits a
// bounded time while the tunnel is full.
func (s *session) begin(ctx context.Context, from netip.Addr) error {
	w, err := s.slots.enter(from)
	if err != nil {
		return err
	}
	if w != nil {
		if err := s.await(ctx, w); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.state.serves() {
		s.slots.release()
		return errRetired
	}
	s.inFlight++
	return nil
}

// await waits until w has a slot.
func (s *session) await(ctx context.Context, w *waiter) (err error) {
	began := time.Now()
	defer func() { s.srv.cfg.Metrics.wait(time.Since(began)) }()
	select {
	case err := <-w.ready:
		return err
	case <-s.retired:
		err = errRetired
	case <-time.After(slotWait):
		err = errBusy
	case <-ctx.Done():
		err = ctx.Err()
	case <-s.tr.Done():
		err = errRetired
	}
	s.slots.leave(w)
	return err
}

// end is the counterpart of begin.
func (s *session) end() {
	s.slots.release()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight--; s.inFlight == 0 && s.state > stateActive {
		s.notify()
	}
}

// Why a session ended, in one word, where no close code says it.
const (
	endLost    = "lost"    // its connection broke, or its client was silent
	endStopped = "stopped" // by the tunnel client
)

// endReason returns the word for why a session ended.
func endReason(code wire.CloseCode) string {
	if code == 0 {
		return endLost
	}
	return strings.ReplaceAll(code.String(), " ", "_")
}

// noteEnd tells the registry, the metrics and the log why the session has ended. The
// line tells of a fault although that has a line of its own, which may be one too many
// for the log.
func (s *session) noteEnd() {
	s.mu.Lock()
	code, cause := s.code, s.fault
	s.mu.Unlock()
	if code == wire.CloseProtocol || errors.Is(s.tr.Err(), h2conn.ErrProtocol) {
		s.turn.slowDown()
	}
	reason := endReason(code)
	if code == wire.CloseDraining && s.stopped.Load() {
		reason = endStopped
	}
	s.srv.registry.noteEnd(s, reason)
	s.srv.cfg.Metrics.sessionEnd(reason)
	if cause == "" {
		cause = code.String()
		if code == wire.CloseDraining && s.stopped.Load() {
			cause = "stopped by the tunnel client"
		}
		if err := s.tr.Err(); code == 0 || errors.Is(err, h2conn.ErrProtocol) { // the client's doing, or the network's
			cause = err.Error()
		}
	}
	s.logUpTo(linesPerSecond).Info().Str(logevent.Field, logevent.Ended).Str("reason", reason).Str("cause", cause).Stringer("lived", time.Since(s.since).Round(100*time.Millisecond)).Msg("session ended")
}

// is reports whether the session is in state st.
func (s *session) is(st state) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == st
}

// closeCode returns why the session ends; 0 while it does not, or if its connection
// broke.
func (s *session) closeCode() wire.CloseCode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.code
}

// inForce returns what the token in force entitles to.
func (s *session) inForce() grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.grant
}

// info describes the session as if it were active, and returns its state.
func (s *session) info() (TunnelInfo, state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return TunnelInfo{
		ID:              s.id,
		RemoteAddr:      s.remote,
		ConnectedAt:     s.since,
		TokenExpires:    s.grant.expires,
		InFlight:        s.inFlight,
		ExtendedConnect: s.tr.ExtendedConnect(),
		RoundTrip:       time.Duration(s.roundTrip.Load()),
		Received:        s.traffic.received.Load(),
		Sent:            s.traffic.sent.Load(),
	}, s.state
}
