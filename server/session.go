package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// slotWait is how long a request waits when its tunnel carries as many as
	// it may.
	slotWait = 5 * time.Second

	// headWait is how long a request that has a slot may wait until its header
	// is sent: for ever, if the tunnel client takes back the streams that it
	// admitted. A connection that takes no bytes ends before.
	headWait = 15 * time.Second

	// minStreams is how many concurrent streams a tunnel client has to admit.
	minStreams = 16

	// maxRefusals is how many fresh tokens may be refused in the life of a
	// session. Each is a line in the log.
	maxRefusals = 20

	// controlBacklog is how many control messages may wait for their answer.
	controlBacklog = 16
)

var (
	errRetired = errors.New("the session takes no new requests")
	errBusy    = errors.New("the tunnel carries as many requests as it may")

	errFewStreams = fmt.Errorf("at least %d concurrent streams are required", minStreams)
)

// session is one live websocket of a tunnel.
type session struct {
	// Static after construction.
	srv    *Server
	id     string
	remote string
	since  time.Time
	conn   *h2conn.Conn
	log    zerolog.Logger

	audited zerolog.Logger // for lines that audit limits
	last    zerolog.Logger // for the line on its end

	// Static from start on, which is before the session is in the table.
	tr    *h2conn.Transport
	slots *fairQueue // one for each request in flight

	full chan struct{} // closed when the session is retired, for those who wait for a slot

	control chan wire.Control // from the reading goroutine to run; never closed
	wake    chan struct{}     // capacity 1: what mu guards has changed; never closed

	violation sync.Once   // the first one ends the session; more may come until then
	tooMany   atomic.Bool // see cut

	// fault is what the client has done wrong, for the line on the session's end:
	// the one that tells of the fault itself may be one too many for the log.
	fault atomic.Pointer[string]

	mu        sync.Mutex
	grant     grant
	outbox    []wire.Control // for run to send
	inFlight  int
	refusals  int            // refused fresh tokens
	leaving   bool           // ends when it carries nothing; takes requests until then
	retired   bool           // takes no new requests, and ends when it carries nothing
	code      wire.CloseCode // why
	notBefore time.Time      // not to be closed before that, however idle
	closeBy   time.Time      // when requests in flight are cut
}

// newSession makes the session of g.id on conn. It hears control messages from
// now on, and takes requests after start.
func newSession(srv *Server, conn *h2conn.Conn, g grant, remote string, log zerolog.Logger) *session {
	lines := srv.lines.of(labelOf(g.id))
	s := &session{
		srv: srv, id: g.id, remote: remote, since: time.Now(), conn: conn, grant: g,
		log:     lines.limited(log, linesPerSecond-1),
		audited: log,
		last:    lines.limited(log, linesPerSecond),
		full:    make(chan struct{}),
		control: make(chan wire.Control, controlBacklog),
		wake:    make(chan struct{}, 1),
	}
	conn.OnControl(s.onControl)
	// For the case that HTTP/2 closes the connection by itself, as it does
	// after the client has broken its rules.
	conn.SetCloseReason(int(wire.CloseProtocol), "HTTP/2 connection error")
	return s
}

// start begins HTTP/2 and returns when the client has answered a ping, which
// proves that it is there and that its settings are known.
func (s *session) start(ctx context.Context) error {
	tr, err := h2conn.NewTransport(s.conn, s.srv.cfg.tunnelConfig())
	if err != nil {
		return err
	}
	s.tr = tr
	if err := tr.Ping(ctx); err != nil {
		return err
	}
	streams := s.srv.cfg.MaxStreams
	if n, ok := tr.MaxConcurrentStreams(); ok {
		if n < minStreams {
			return fmt.Errorf("the tunnel client admits %d: %w", n, errFewStreams)
		}
		streams = int(min(uint32(streams), n))
	}
	s.slots = newFairQueue(streams, maxWaiting)
	return nil
}

// run lives as long as the session and ends it. It answers control messages,
// minds the token's expiry, and closes the connection when the session has
// been retired and its requests have finished.
func (s *session) run() {
	defer s.ended()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	warned := false
	for {
		s.send()
		next, done := s.step(&warned)
		if done {
			s.tr.Close()
			return
		}
		timer.Reset(next)
		select {
		case <-s.tr.Done():
			return
		case m := <-s.control:
			s.handleControl(m)
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// send sends what is in the outbox. A client that takes nothing blocks it for
// no longer than until the write timeout has ended the connection.
func (s *session) send() {
	s.mu.Lock()
	outbox := s.outbox
	s.outbox = nil
	s.mu.Unlock()
	for _, m := range outbox {
		if err := s.conn.SendControl(m.Encode()); err != nil {
			s.log.Debug().Err(err).Str("type", m.Type).Msg("control message not sent")
		}
	}
}

// step does what is due and returns how long nothing else will be, or that the
// connection is to be closed now.
func (s *session) step(warned *bool) (next time.Duration, done bool) {
	const idle = time.Hour
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.retired || s.leaving {
		switch {
		case s.inFlight == 0 && !now.Before(s.notBefore), !now.Before(s.closeBy), s.tooMany.Load():
			s.retireLocked(s.code)
			return 0, true
		case s.inFlight == 0:
			return s.notBefore.Sub(now), false
		}
		return s.closeBy.Sub(now), false
	}
	if s.srv.cfg.IgnoreTokenExpiry {
		return idle, false
	}
	wall := s.srv.cfg.now()
	left := s.grant.expires.Sub(wall)
	if left > 0 {
		*warned = false
		return min(left, idle), false
	}
	if left > -tokenLeeway {
		if !*warned {
			*warned = true
			// Last chance: the client may answer with a fresh token.
			s.sendLocked(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
		}
		return left + tokenLeeway, false
	}
	s.log.Info().Msg("token expired and no fresh one came: session drains")
	s.retireLocked(wire.CloseTokenExpired)
	return 0, false
}

// retire makes the session take no new requests and end when those in flight
// have finished, or after the drain timeout. It reports whether the session
// was taking requests until now.
func (s *session) retire(code wire.CloseCode) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retireLocked(code)
}

func (s *session) retireLocked(code wire.CloseCode) bool {
	if s.retired {
		return false
	}
	now := time.Now()
	s.retired = true
	if code != 0 { // 0: it has ended by itself
		s.setCodeLocked(code)
	}
	s.notBefore = now
	closeBy := now.Add(s.srv.cfg.DrainTimeout)
	if !s.leaving || closeBy.Before(s.closeBy) {
		s.closeBy = closeBy
	}
	close(s.full)
	// Out of the table at once, so that viewers find a successor or none. The
	// table's lock is never held while a session's is wanted.
	s.srv.registry.remove(s)
	s.srv.retired.add(s)
	s.notify()
	return true
}

// setCodeLocked says with which code the connection will be closed, whoever
// closes it.
func (s *session) setCodeLocked(code wire.CloseCode) {
	s.code = code
	s.conn.SetCloseReason(int(code), code.String())
}

func (s *session) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// leave asks the client to connect anew after delay, keeps taking requests
// until it has had time for that, and then ends when it carries none.
func (s *session) leave(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		return // it ends anyway, and its client knows why or will
	}
	s.sendLocked(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining, ReconnectAfterMS: delay.Milliseconds()})
	now := time.Now()
	s.leaving = true
	s.setCodeLocked(wire.CloseDraining)
	gap := delay + min(leaveGap, max(s.srv.cfg.DrainTimeout, time.Second))
	s.notBefore = now.Add(gap)
	s.closeBy = now.Add(max(s.srv.cfg.DrainTimeout, gap))
}

// ownCode is the code with which to retire a session that takes no requests
// any more: none if its connection has broken.
func (s *session) ownCode() wire.CloseCode {
	select {
	case <-s.tr.Done():
		return 0
	default:
		return wire.CloseDraining
	}
}

// hasLeft notes that the client has done what leave has asked of it, and
// reports whether leave has: until the session carries nothing it goes on.
func (s *session) hasLeft() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving {
		s.notBefore = time.Time{}
		s.notify()
	}
	return s.leaving
}

func (s *session) isRetired() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retired
}

// kill ends the session without regard for requests in flight.
func (s *session) kill(code wire.CloseCode) {
	s.mu.Lock()
	s.retireLocked(code) // keeps an earlier code: a replaced client stays replaced
	s.closeBy = time.Time{}
	s.mu.Unlock()
	s.notify()
}

// cut ends a session that has been retired, without regard for requests in
// flight. It may be called while another session's mu is held.
func (s *session) cut() {
	s.tooMany.Store(true)
	s.notify()
}

// begin admits one request, which has to be followed by end. It waits a
// bounded time while the tunnel is full.
func (s *session) begin(ctx context.Context) error {
	w, err := s.slots.enter(requester(ctx))
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
	if s.retired {
		s.slots.release()
		return errRetired
	}
	s.inFlight++
	return nil
}

// await waits until w has a slot.
func (s *session) await(ctx context.Context, w *waiter) (err error) {
	t := time.NewTimer(slotWait)
	defer t.Stop()
	select {
	case err := <-w.ready:
		return err
	case <-s.full:
		err = errRetired
	case <-t.C:
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
	if s.inFlight--; s.inFlight == 0 && (s.retired || s.leaving) {
		s.notify()
	}
}

// ended cleans up after the connection is gone.
func (s *session) ended() {
	s.mu.Lock()
	code := s.code
	s.retireLocked(code)
	s.mu.Unlock()
	s.srv.forget(s)
	cause := code.String()
	if err := s.tr.Err(); code == 0 || errors.Is(err, h2conn.ErrProtocol) { // the client's doing, or the network's
		cause = err.Error()
	}
	if fault := s.fault.Load(); fault != nil {
		cause = *fault
	}
	s.last.Info().Str("cause", cause).Dur("lived_ms", time.Since(s.since)).Msg("session ended")
}

// onControl is called by the goroutine that reads, and must not block.
func (s *session) onControl(b []byte) {
	reason := "too many control messages"
	m, err := wire.ParseControl(b)
	switch {
	case err != nil:
		reason = "malformed control message"
	case m.Type != wire.TypeToken && m.Type != wire.TypeGoaway:
		return // of a later version of the protocol
	default:
		select {
		case s.control <- m:
			return
		default:
			err = errors.New("they come faster than they can be answered")
		}
	}
	s.violation.Do(func() {
		s.fault.CompareAndSwap(nil, &reason)
		s.log.Warn().Err(err).Msg(reason)
		s.conn.SetCloseReason(int(wire.CloseProtocol), reason)
		go s.conn.Close() // not here: Close waits for this goroutine
	})
}

func (s *session) handleControl(m wire.Control) {
	switch m.Type {
	case wire.TypeToken:
		s.refresh(m.Token)
	case wire.TypeGoaway:
		if s.hasLeft() {
			return
		}
		if s.retire(wire.CloseDraining) {
			s.log.Debug().Msg("tunnel client asked to be drained")
		}
	}
}

// refresh puts a fresh token in force, or keeps the old one.
func (s *session) refresh(token string) {
	g, err := s.srv.admitToken(token, s.id)
	ok := err == nil
	answer := wire.Control{Type: wire.TypeToken, OK: &ok}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ok {
		s.refusals++
		if s.refusals > maxRefusals {
			const fault = "too many refused tokens"
			s.fault.CompareAndSwap(nil, new(fault))
			s.log.Warn().Msg(fault + ": session ends")
			s.retireLocked(wire.CloseProtocol)
			s.closeBy = time.Time{}
			return
		}
	}
	if ok && s.retired { // it would not be taken back into service
		ok, err = false, errRetired
	}
	if ok {
		s.grant = g
		answer.Exp = g.expires.Unix()
		s.log.Debug().Time("expires", g.expires).Msg("token refreshed")
	} else {
		s.log.Warn().Err(err).Msg("fresh token refused; the old one stays in force")
	}
	s.sendLocked(answer)
}

// sendLocked leaves m for run to send.
func (s *session) sendLocked(m wire.Control) {
	s.outbox = append(s.outbox, m)
	s.notify()
}

// info describes the session for Tunnels.
func (s *session) info() TunnelInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	return TunnelInfo{
		ID:              s.id,
		RemoteAddr:      s.remote,
		ConnectedAt:     s.since,
		TokenExpires:    s.grant.expires,
		InFlight:        s.inFlight,
		ExtendedConnect: s.tr.ExtendedConnect(),
	}
}
