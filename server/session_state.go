package server

import (
	"cmp"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// state is a stage in the life of a session. A session only moves forward, and
// only as this table allows:
//
//	from       to: active  leaving  draining  closing  ended
//	starting        yes      -        -         yes      -
//	active          -        yes      yes       yes      yes
//	leaving         -        -        yes       yes      yes
//	draining        -        -        -         yes      yes
//	closing         -        -        -         -        yes
//	ended           -        -        -         -        -
type state int

const (
	// stateStarting: the websocket is open, and the first ping has no answer
	// yet. Nobody but its registration knows the session.
	stateStarting state = iota

	// stateActive: takes new requests.
	stateActive

	// stateLeaving: the service has asked the client to connect elsewhere. The
	// session takes new requests until it carries none, from notBefore on, or
	// until closeBy.
	stateLeaving

	// stateDraining: takes no new requests, and ends when those in flight have
	// finished, or at closeBy.
	stateDraining

	// stateClosing: ends at once. Requests in flight fail.
	stateClosing

	// stateEnded: the connection is gone, and the registry has forgotten the
	// session.
	stateEnded
)

// mayBecome reports whether the table of states allows a move from st to next.
func (st state) mayBecome(next state) bool {
	switch next {
	case stateActive:
		return st == stateStarting
	case stateLeaving:
		return st == stateActive
	case stateDraining:
		return st.serves()
	case stateClosing:
		return st < stateClosing
	case stateEnded:
		return st != stateStarting && st < stateEnded
	}
	return false
}

// String returns the word that the API uses for the state.
func (st state) String() string {
	return [...]string{"starting", "active", "leaving", "draining", "closing", "ended"}[st]
}

// serves reports whether a session in this state takes new requests.
func (st state) serves() bool { return st == stateActive || st == stateLeaving }

// enter moves the session to another state and returns the one before. It does
// nothing and reports false if that move is not allowed. A code other than 0 is
// the close code for the client; fault, which may be empty, is what the client
// has done wrong.
//
// For all moves that begin or end service the registry calls it, with its lock
// held: it has a session as active exactly while the session serves. A registration
// calls it for a session that has not come into service.
func (s *session) enter(next state, code wire.CloseCode, fault string) (was state, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.enterLocked(next, code, fault)
}

func (s *session) enterLocked(next state, code wire.CloseCode, fault string) (was state, ok bool) {
	was = s.state
	if !was.mayBecome(next) {
		return was, false
	}
	s.state = next
	// A session that drains already keeps its code: a replaced client stays
	// replaced. What an operator or the client itself has done counts for more.
	if code != 0 && (was < stateDraining || code == wire.CloseEvicted || code == wire.CloseProtocol) {
		s.code, s.fault = code, fault
		// Set now, in case HTTP/2 closes the connection.
		s.conn.SetCloseReason(int(code), cmp.Or(fault, code.String()))
	}
	if next == stateDraining {
		if closeBy := time.Now().Add(s.srv.live.Load().DrainTimeout); was == stateActive || closeBy.Before(s.closeBy) {
			s.closeBy = closeBy
		}
	}
	switch {
	case was == stateStarting && next != stateActive:
		s.giveUp()
	case was == stateStarting:
		s.giveUp = nil // nor what it holds
	case was.serves() && !next.serves():
		close(s.retired)
	}
	s.notify()
	return was, true
}

// leave asks the client to connect again after delay. The session takes requests
// until the client has had time for that, and then ends when it carries none.
func (s *session) leave(delay time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.enterLocked(stateLeaving, wire.CloseDraining, ""); !ok {
		return // it ends anyway, and its client knows why or will
	}
	now := time.Now()
	gap := delay + min(leaveGap, max(s.srv.live.Load().DrainTimeout, time.Second))
	s.notBefore = now.Add(gap)
	s.closeBy = now.Add(max(s.srv.live.Load().DrainTimeout, gap))
	s.sendLocked(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining, ReconnectAfterMS: delay.Milliseconds()})
}

// handOver takes the session out of service since its client has sent a GOAWAY
// frame, which leaves no way to send it requests. The client is asked to connect
// again, unless it has said that it leaves.
func (s *session) handOver() {
	switch {
	case s.clientLeaves.Load(): // which run may not have heard yet
		if left := s.hasLeft(); s.retire(wire.CloseDraining) && !left {
			s.stopped.Store(true)
		}
	case !s.srv.registry.handOver(s):
		s.retire(wire.CloseDraining)
	}
}

// lost takes the session out of service since it takes no requests any more: by
// handOver after a GOAWAY frame, and otherwise with code.
func (s *session) lost(code wire.CloseCode) {
	select {
	case <-s.tr.GoneAway():
		s.handOver()
	default:
		s.retire(code)
	}
}

// askForAnother asks the client to connect again, and reports false if the session
// is not active. Only the registry calls it, with its lock held.
func (s *session) askForAnother() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateActive {
		return false
	}
	s.sendLocked(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining})
	return true
}

// hasLeft notes that the client has done what leave has asked of it, and reports
// whether leave has.
func (s *session) hasLeft() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateLeaving {
		s.notBefore = time.Time{}
		s.notify()
	}
	return s.state == stateLeaving
}

// retire asks for the session's end when the requests in flight have finished, or
// after the drain timeout. It takes no new ones from now on. retire reports
// whether it took any until now.
func (s *session) retire(code wire.CloseCode) bool {
	return s.srv.registry.move(s, stateDraining, code, "")
}

// cut asks for the session's end now. Requests in flight fail. It reports whether
// it is the first to ask for that.
func (s *session) cut(code wire.CloseCode, fault string) bool {
	return s.srv.registry.move(s, stateClosing, code, fault)
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
