package server

import (
	"sync/atomic"
	"time"
)

// Status describes the service as a whole, at one moment.
type Status struct {
	// Draining says that Shutdown or Close has been called.
	Draining bool

	// Tunnels is how many take requests now, and MaxTunnels how many there may
	// be; zero: no limit.
	Tunnels, MaxTunnels int

	// Flapping is how many tunnels have connected anew five times or more within
	// the last ten minutes, whether they take requests now or not.
	Flapping int

	// Sessions counts the live websockets of tunnel clients by their state:
	// "active", "leaving" (asked to connect elsewhere), "draining" (takes no new
	// requests) and "closing". All four are always there.
	Sessions map[string]int

	// InFlight is how many requests the tunnels carry, Slots how many the active
	// sessions may carry together, and Waiting how many wait for a slot.
	InFlight, Slots, Waiting int

	// Connections are the open ones of viewers, and MaxConnections how many there
	// may be; zero: no limit. Only those count that Serve has accepted.
	Connections, MaxConnections int

	// Held is how many bytes of memory viewers and tunnel clients make the service
	// hold, by its own account, and MaxHeld how many they may; zero: no limit.
	Held, MaxHeld int64

	// Received and Sent are the bytes of bodies and upgraded connections so far,
	// from viewers to tunnels and from tunnels to viewers.
	Received, Sent int64
}

// Status returns what the service does now. It looks at each session, one after
// the other, and holds up none.
func (s *Server) Status() Status {
	set := s.live.Load()
	st := Status{
		Draining:       s.isDraining(),
		MaxTunnels:     max(set.MaxTunnels, 0),
		Sessions:       map[string]int{},
		MaxConnections: set.MaxConnections,
		Held:           s.memory.Held(),
		MaxHeld:        s.cfg.MemoryLimit / budgetPart,
		Received:       s.traffic.received.Load(),
		Sent:           s.traffic.sent.Load(),
	}
	st.Connections = s.connections.count()
	st.Flapping = s.registry.flapping()
	for _, in := range []state{stateActive, stateLeaving, stateDraining, stateClosing} {
		st.Sessions[in.String()] = 0
	}
	for _, sess := range s.registry.sessions() {
		sess.mu.Lock()
		in, inFlight := sess.state, sess.inFlight
		sess.mu.Unlock()
		if in == stateEnded {
			continue
		}
		st.Sessions[in.String()]++
		st.InFlight += inFlight
		if in.serves() && !sess.joined { // which has no slots of its own
			st.Tunnels++
			slots, waiting := sess.slots.load()
			st.Slots += slots
			st.Waiting += waiting
		}
	}
	return st
}

// TunnelsUp returns how many tunnels there are, with those that are about to come. Unlike
// Status it does not look at each of them.
func (s *Server) TunnelsUp() int {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	return s.registry.up
}

// traffic counts the bytes of bodies and upgraded connections, while they move.
type traffic struct {
	all            *traffic     // counts them too; nil: that is this one
	received, sent atomic.Int64 // from and to viewers
}

func (t *traffic) addReceived(n int) {
	for ; t != nil; t = t.all {
		t.received.Add(int64(n))
	}
}

func (t *traffic) addSent(n int) {
	for ; t != nil; t = t.all {
		t.sent.Add(int64(n))
	}
}

// TunnelDetails describes a tunnel with its sessions.
type TunnelDetails struct {
	ID string

	// Active is the session that takes requests; nil: none does, and the tunnel
	// is only finishing what it has, or is about to connect.
	Active *TunnelInfo

	// Gone is what the tunnel was like when it stopped taking requests, if it has
	// within the last ten minutes and Active is nil. Otherwise it is nil.
	Gone *TunnelInfo

	// Sessions are the live ones: the oldest first, and the active one last, after
	// those that have joined it.
	Sessions []SessionInfo

	// Failures are the last requests that failed, the newest first: at most ten.
	Failures []RequestFailure
}

// SessionInfo describes one live websocket of a tunnel.
type SessionInfo struct {
	RemoteAddr  string
	ConnectedAt time.Time
	State       string // as in Status.Sessions
	InFlight    int
}

// RequestFailure says why there was no whole answer to a request. It tells
// nothing of the request itself.
type RequestFailure struct {
	Time      time.Time
	Status    int    // what the viewer got; zero: nothing
	Hop       string // the party that is the reason: viewer, service, client (the tunnel client) or target
	Error     string // an error type of RFC 9209, such as connection_refused
	ErrorCode string // one of the codes in docs/errors.md, such as WT-TARGET-REFUSED
	RequestID string // the name of the request in logs and error pages
}

// maxFailures is how many failures of a tunnel are remembered.
const maxFailures = 10

// Tunnel describes the tunnel with this id, and false if it has no
// session, none is about to come, and it had none within the last ten minutes.
func (s *Server) Tunnel(id string) (TunnelDetails, bool) {
	tun, sessions, gone, ok := s.registry.entry(labelOf(id))
	if !ok {
		return TunnelDetails{}, false
	}
	d := TunnelDetails{ID: id, Gone: gone, Failures: tun.failures}
	if gone != nil {
		d.ID = gone.ID
	}
	for _, sess := range sessions {
		info, in := sess.info()
		if in == stateEnded {
			continue
		}
		d.Sessions = append(d.Sessions, SessionInfo{RemoteAddr: info.RemoteAddr, ConnectedAt: info.ConnectedAt, State: in.String(), InFlight: info.InFlight})
		if sess == tun.active {
			info = tun.info()
			d.ID, d.Active = info.ID, &info
		}
	}
	return d, true
}

// describe puts into info what the tunnel itself knows.
func (tun *tunnel) describe(info *TunnelInfo) {
	info.Replacements, info.ReplacedAddr, info.Failed = tun.replacements, tun.replaced, tun.failed
	if tun.past != nil {
		tun.past.describe(info, time.Now())
	}
}

// noteFailure remembers what became of a request for the tunnel l, if it is here.
func (g *registry) noteFailure(l label, f RequestFailure) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[l]
	if tun == nil || !tun.up {
		return
	}
	tun.failed++
	// A new slice, for entry has given the old one away.
	tun.failures = append([]RequestFailure{f}, tun.failures[:min(len(tun.failures), maxFailures-1)]...)
}

// entry returns a copy of the entry of l and its sessions, and what is remembered of
// it if it has gone. It returns false if nothing is known of it and no session is about
// to come.
func (g *registry) entry(l label) (tun tunnel, sessions []*session, gone *TunnelInfo, ok bool) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history.trim(now)
	if t := g.tunnels[l]; t != nil && (t.up || len(t.older) > 0) {
		tun, sessions, ok = t.copyLocked(), t.sessions(), true
	}
	if p := g.pastLocked(l); p != nil && p.last != nil {
		info := g.goneLocked(p, now)
		gone, ok = &info, true
		if tun.past == nil { // otherwise tun has them
			tun.failures = p.last.failures
		}
	}
	return tun, sessions, gone, ok
}

// Evicted returns the ids whose evicted tokens are blocked now, in no particular
// order.
func (s *Server) Evicted() []string {
	g := s.registry
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.evictions.ids(s.cfg.now())
}
