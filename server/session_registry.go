package server

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// maxComing is how many registrations of one id may be under way. The newest
	// is the one that counts, so the oldest makes room. Otherwise anyone with one
	// token could take all of maxHandshakes.
	maxComing = 8

	// maxDraining is how many sessions of one tunnel may finish what they have at
	// a time. Each holds a connection, which no other limit counts, and anyone
	// with a token can make hundreds a second.
	maxDraining = 64

	// maxSockets is how many connections one tunnel may have: those that come, to
	// serve or to join, serve, drain, and wait for the close handshake of their client.
	// The last ones make room.
	maxSockets = maxComing + maxDraining + 24
)

// registry knows which sessions serve which ids in this process, by the ids'
// labels, and which tokens are blocked. Of the sessions of one id, the one that
// registered last is active, in whatever order their handshakes finish.
//
// One lock guards all of it, so each decision about a session is atomic. The lock
// may be held while a session's is taken, and never the other way round.
type registry struct {
	// draining is set once, under mu: no session comes into service after that.
	draining atomic.Bool

	cluster *cluster.Member // nil if the service is alone; set once, before there are tunnels

	running sync.WaitGroup // every session that has come into service, until its end has been seen to

	mu        sync.Mutex
	seq       uint64 // of the last announcement
	tunnels   map[label]*tunnel
	up        int // how many of them are up
	expecting int // how many wait for one to be up
	evictions evictions
	history   history
}

// tunnel is the entry of one id. It exists while the id has sessions, or while
// requests wait for one. Limits for all sessions of a tunnel belong here.
type tunnel struct {
	label   label
	up      bool            // it has a session that serves, a registration under way, or one to come
	active  *session        // nil, or the one that serves
	beside  []*session      // that have joined the active one and serve too; never changed in place
	seq     uint64          // of its announcement
	coming  []*announcement // registrations whose first ping is under way
	joining []*announcement // the same of sessions that join the active one
	older   []*session      // draining and closing, the one longest there first
	owed    *session        // nil, or the one in whose place its client has been asked for another: see handOver
	changed chan struct{}   // closed and forgotten when it comes up, and when an announcement is settled; nil: nobody waits

	abandoned []*h2conn.Conn // on which no session came into service, while they close

	awaiting  int // how many wait for a session; at most maxWaiting
	expecting int // how many wait for an announcement

	replacements uint64 // of a live session by a newer one, since it is up
	replaced     string // remote address of the last one that was

	failed   uint64           // requests, since it is up
	failures []RequestFailure // the last of them, the newest first; never changed in place

	past *past // what is known of its earlier sessions; nil: it had none
}

// announcement is a registration that has been admitted, before its session
// can take requests. Viewers that find no session wait for it.
type announcement struct {
	tunnel *tunnel
	seq    uint64
	giveUp func()          // ends the wait for its first ping
	joins  *cluster.Origin // of the session that it joins, without a viewer that waits; nil: it is to be the active one
}

// newRegistry returns a registry that charges what it remembers to m.
func newRegistry(m *memory) *registry {
	return &registry{
		tunnels: make(map[label]*tunnel),
		history: history{gone: make(map[label]*past), memory: m.Hold(nil, nil, 0), limit: m.total / gonePart},
	}
}

// tunnelLocked returns l's entry, which it makes if there is none. A call of
// tidyLocked has to follow.
func (g *registry) tunnelLocked(l label) *tunnel {
	tun := g.tunnels[l]
	if tun == nil {
		tun = &tunnel{label: l}
		g.tunnels[l] = tun
	}
	return tun
}

// tidyLocked brings an entry's counts up to date after a change, and deletes it if
// nothing is left.
func (g *registry) tidyLocked(tun *tunnel) {
	switch up := tun.active != nil || len(tun.coming) > 0 || tun.owed != nil; {
	case up && !tun.up:
		tun.up = true
		g.up++
		tun.wakeLocked()
	case !up && tun.up:
		tun.up = false
		g.up--
		g.goLocked(tun)
		if g.cluster != nil {
			g.cluster.Unregister(string(tun.label))
		}
	}
	if !tun.up && len(tun.older) == 0 && tun.expecting == 0 && len(tun.abandoned) == 0 && len(tun.joining) == 0 {
		delete(g.tunnels, tun.label)
	}
}

// wakeLocked wakes all goroutines that wait for a change.
func (tun *tunnel) wakeLocked() {
	if tun.changed != nil {
		close(tun.changed)
		tun.changed = nil
	}
}

// announce says that a session of l is about to come, which joins that of joins
// unless this is nil. It has to be followed by publish, or join, or withdraw. giveUp,
// which must not block, may be called until then.
func (g *registry) announce(l label, joins *cluster.Origin, giveUp func()) *announcement {
	g.mu.Lock()
	tun := g.tunnelLocked(l)
	g.seq++
	a := &announcement{tunnel: tun, seq: g.seq, giveUp: giveUp, joins: joins}
	list := tun.listOf(a)
	*list = append(*list, a)
	if n := len(*list) - maxComing; n > 0 {
		(*list)[n-1].giveUp() // those before it have been told
	}
	g.tidyLocked(tun)
	surplus := tun.surplusLocked()
	g.mu.Unlock()
	for _, c := range surplus {
		c.Abort()
	}
	return a
}

// withdraw takes back an announcement whose session failed to start.
func (g *registry) withdraw(a *announcement) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settleLocked(a)
	g.tidyLocked(a.tunnel)
}

// abandon is withdraw for a session that has a connection, also after publish has
// failed. closed has to follow when that is closed.
func (g *registry) abandon(a *announcement, c *h2conn.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settleLocked(a)
	tun := g.tunnelLocked(a.tunnel.label)
	tun.abandoned = append(tun.abandoned, c)
	g.tidyLocked(tun)
}

// closed is the counterpart of abandon.
func (g *registry) closed(l label, c *h2conn.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[l]
	tun.abandoned = slices.DeleteFunc(tun.abandoned, func(o *h2conn.Conn) bool { return o == c })
	g.tidyLocked(tun)
}

// surplusLocked returns the connections of tun, of those that close, that have to go
// at once for there to be no more than maxSockets.
func (tun *tunnel) surplusLocked() []*h2conn.Conn {
	n := len(tun.coming) + len(tun.joining) + len(tun.sessions()) + len(tun.abandoned) - maxSockets
	closing := slices.Clone(tun.abandoned)
	for _, s := range tun.older {
		if s.is(stateClosing) {
			closing = append(closing, s.conn)
		}
	}
	return closing[:max(0, min(n, len(closing)))]
}

func (g *registry) settleLocked(a *announcement) {
	tun := a.tunnel
	list := tun.listOf(a)
	if i := slices.Index(*list, a); i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
	if a.joins == nil {
		tun.wakeLocked()
	}
}

// listOf returns the list of tun that a belongs to.
func (tun *tunnel) listOf(a *announcement) *[]*announcement {
	if a.joins != nil {
		return &tun.joining
	}
	return &tun.coming
}

// arrival says what a session has come into service after.
type arrival struct {
	replaced     *session // nil, or the one whose place it has taken
	replacements uint64   // of its tunnel, with that one
	after        string   // why the last session ended; empty: none is known
	reconnects   int      // of its tunnel within historySpan, with this one
}

// publish settles a by making s the active session, which runs from now on. On
// error s has not come into service, and still belongs to the caller.
func (g *registry) publish(a *announcement, s *session, now time.Time) (as arrival, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settleLocked(a)
	tun := a.tunnel
	defer g.tidyLocked(tun)
	switch {
	case g.draining.Load():
		return as, errDraining
	case tun.active != nil && tun.seq > a.seq:
		return as, errOvertaken
	case g.evictions.check(s.grant, now) != nil:
		return as, errEvicted
	}
	if _, ok := s.enter(stateActive, 0, ""); !ok {
		return as, errRetired
	}
	if as.replaced = tun.active; as.replaced != nil {
		tun.replacements++
		tun.replaced = as.replaced.remote
		tun.moveLocked(as.replaced, stateDraining, wire.CloseReplaced, "")
	}
	as.after, as.reconnects = g.returnLocked(tun)
	as.replacements = tun.replacements
	tun.active, tun.seq, tun.owed = s, a.seq, nil
	if g.cluster != nil {
		g.cluster.Register(string(tun.label), s.origin)
	}
	g.running.Add(1)
	go s.run()
	return as, nil
}

// move moves s to a state in which it does not serve, and reports false if that
// is not allowed any more: see session.enter. It is the one way out of service.
func (g *registry) move(s *session, next state, code wire.CloseCode, fault string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[s.label]
	if tun == nil { // s has failed to start, or has ended
		_, ok := s.enter(next, code, fault)
		return ok
	}
	defer g.tidyLocked(tun)
	return tun.moveLocked(s, next, code, fault)
}

// handOver takes s out of service since its client's HTTP/2 takes no more
// requests, and asks the client for another session. Requests wait for that: as
// long as s has not ended, and settleWait after that unless the client has ended
// it. handOver does nothing and reports false if s is not active, or if no other
// session can come.
func (g *registry) handOver(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[s.label]
	if tun == nil || tun.active != s || g.draining.Load() || !s.askForAnother() {
		return false
	}
	defer g.tidyLocked(tun)
	tun.owed = s
	return tun.moveLocked(s, stateDraining, wire.CloseDraining, "")
}

// settleDebt ends the wait for a session in the place of s, which has ended: at
// once if its client has ended it, and otherwise when that had time to connect.
func (g *registry) settleDebt(s *session, clientLeft bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[s.label]
	switch {
	case tun == nil || tun.owed != s:
	case clientLeft:
		tun.owed = nil
		tun.wakeLocked()
		g.tidyLocked(tun)
	default:
		time.AfterFunc(settleWait, func() { g.settleDebt(s, true) })
	}
}

// moveLocked is session.enter for a state in which s does not serve. With the active
// session go those beside it. If too many sessions of the tunnel drain, the one that
// has for the longest is cut.
func (tun *tunnel) moveLocked(s *session, next state, code wire.CloseCode, fault string) bool {
	was, ok := s.enter(next, code, fault)
	if !ok {
		return false
	}
	if was.serves() {
		tun.older = append(tun.older, s)
		if s == tun.active {
			tun.active = nil
			tun.leaveLocked(s)
			tun.endBesideLocked(code)
		} else {
			tun.leaveBesideLocked(s)
		}
	}
	switch next {
	case stateDraining:
		drain := slices.DeleteFunc(slices.Clone(tun.older), func(o *session) bool { return !o.is(stateDraining) })
		if len(drain) > maxDraining {
			drain[0].enter(stateClosing, 0, "")
		}
	case stateEnded:
		if i := slices.Index(tun.older, s); i >= 0 {
			tun.older = slices.Delete(tun.older, i, i+1)
		}
	}
	return true
}

// evict blocks the tokens in force of the tunnel l, and those that are older, and
// cuts its sessions. It reports whether there were any, and whether the tunnel was away
// but has been here a short while ago.
func (g *registry) evict(l label, now time.Time) (here, away bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	away = g.evictGoneLocked(l, now)
	tun := g.tunnels[l]
	if tun == nil {
		return false, away
	}
	defer g.tidyLocked(tun)
	tun.owed = nil
	all := tun.sessions()
	for _, s := range all {
		g.evictions.block(s.inForce(), now)
		tun.moveLocked(s, stateClosing, wire.CloseEvicted, "")
	}
	return len(all) > 0, away
}

// checkEvicted returns errEvicted if gr's token is blocked.
func (g *registry) checkEvicted(gr grant, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.evictions.check(gr, now)
}

// unblock lets the evicted tokens of id in again, and reports whether there
// were any.
func (g *registry) unblock(id string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.evictions.lift(id, now)
}

// drain lets no session come into service from now on. It reports whether this is
// the first call.
func (g *registry) drain() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.draining.Swap(true)
}

// hasRoom reports whether a session of l can come without there being more
// than limit tunnels.
func (g *registry) hasRoom(l label, limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[l]
	return limit <= 0 || tun != nil && tun.up || g.up < limit
}

// sessions returns all that have come into service and have not ended.
func (g *registry) sessions() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]*session, 0, g.up)
	for _, tun := range g.tunnels {
		list = append(list, tun.sessions()...)
	}
	return list
}

func (tun *tunnel) sessions() []*session {
	list := append(slices.Clone(tun.older), tun.beside...)
	if tun.active != nil {
		list = append(list, tun.active)
	}
	return list
}

// active returns a copy of the entries that have an active session, in no
// particular order.
func (g *registry) active() []tunnel {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]tunnel, 0, g.up)
	for _, tun := range g.tunnels {
		if tun.active != nil {
			list = append(list, tun.copyLocked())
		}
	}
	return list
}

// copyLocked returns a copy that may be read without the lock.
func (tun *tunnel) copyLocked() tunnel {
	t := *tun
	if t.past != nil {
		p := *t.past
		t.past = &p
	}
	return t
}
