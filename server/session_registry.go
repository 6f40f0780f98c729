package server

import (
	"context"
	"sync"
	"time"
)

// registry is who serves which id in this process, by the ids' labels. Of the
// sessions of one id, the one that registered last is active, whatever order
// their handshakes finish in. It is one small type so that a lookup that misses
// has one place to go when there are several nodes.
type registry struct {
	mu        sync.Mutex
	seq       uint64 // of the last announcement
	tunnels   map[label]*tunnel
	expected  map[label]*expectation
	expecting int // how many wait for one of those
}

// expectation is an id that has no entry and for whose first registration
// somebody waits.
type expectation struct {
	waiting   int
	announced chan struct{} // closed when it comes
}

// maxExpecting is how many may wait like that, for all ids together. It bounds
// what viewers of made up ids can pile up.
const maxExpecting = 20_000

// tunnel is one id's entry. It exists while it has a session or expects one.
type tunnel struct {
	active *session
	seq    uint64          // of the active session's announcement
	coming []*announcement // registrations whose first ping is under way
	settle chan struct{}   // closed and replaced whenever one of them is settled
	await  int             // how many wait for that; at most maxWaiting

	replacements uint64 // of a live session by a newer one
	replaced     string // remote address of the last one that was
}

// announcement is a registration that has been admitted, before its session
// can take requests. Viewers that find no session wait for it.
type announcement struct {
	label  label
	seq    uint64
	giveUp func() // ends the wait for its first ping
}

// maxComing is how many registrations of one id may be under way. The newest
// is the one that counts, so the oldest makes room: else whoever has one token
// could take all of maxHandshakes.
const maxComing = 8

func newRegistry() *registry {
	return &registry{tunnels: make(map[label]*tunnel), expected: make(map[label]*expectation)}
}

// announce says that a session of l is about to come. It has to be followed
// by publish or withdraw. giveUp, which must not block, may be called until then.
func (g *registry) announce(l label, giveUp func()) *announcement {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.seq++
	a := &announcement{label: l, seq: g.seq, giveUp: giveUp}
	tun := g.tunnels[l]
	if tun == nil {
		tun = &tunnel{settle: make(chan struct{})}
		g.tunnels[l] = tun
		if e := g.expected[l]; e != nil {
			close(e.announced)
			delete(g.expected, l)
			g.expecting -= e.waiting
		}
	}
	tun.coming = append(tun.coming, a)
	if n := len(tun.coming) - maxComing; n > 0 {
		tun.coming[n-1].giveUp() // those before it have been told
	}
	return a
}

// publish makes s the active session and returns the one it replaces, if any,
// and how many have been replaced. It reports false if a later registration of
// the id has been published already: then s is not in the table.
func (g *registry) publish(a *announcement, s *session) (replaced *session, count uint64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.settleLocked(a)
	if tun.active != nil && tun.seq > a.seq {
		return nil, 0, false
	}
	if replaced = tun.active; replaced != nil {
		tun.replacements++
		tun.replaced = replaced.remote
	}
	tun.active, tun.seq = s, a.seq
	return replaced, tun.replacements, true
}

// withdraw takes back an announcement whose session did not come about.
func (g *registry) withdraw(a *announcement) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.settleLocked(a)
	g.forgetLocked(a.label, tun)
}

func (g *registry) settleLocked(a *announcement) *tunnel {
	tun := g.tunnels[a.label]
	for i, c := range tun.coming {
		if c == a {
			tun.coming = append(tun.coming[:i], tun.coming[i+1:]...)
			break
		}
	}
	close(tun.settle)
	tun.settle = make(chan struct{})
	return tun
}

func (g *registry) forgetLocked(l label, tun *tunnel) {
	if tun.active == nil && len(tun.coming) == 0 {
		delete(g.tunnels, l)
	}
}

// hasRoom reports whether a session of l can come without there being more
// than limit tunnels.
func (g *registry) hasRoom(l label, limit int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tunnels[l] != nil || len(g.tunnels) < limit
}

// remove takes s out of the table if it is still the active session of its
// id, and reports whether it was.
func (g *registry) remove(s *session) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := labelOf(s.id)
	tun := g.tunnels[l]
	if tun == nil || tun.active != s {
		return false
	}
	tun.active = nil
	g.forgetLocked(l, tun)
	return true
}

// settleWait is how long a request waits for the first session of its tunnel: for
// one registration, and for one more if that came to nothing. A tunnel client
// that registers again and again is not to hold its viewers for ever.
const settleWait = 2 * readyTimeout

// lookup returns the active session of l. If there is none but one has been
// announced, it waits for that, up to settleWait. It returns nil if there is
// none, or if ctx ends first, and errBusy if too many wait already.
func (g *registry) lookup(ctx context.Context, l label) (*session, error) {
	var late <-chan time.Time
	for {
		g.mu.Lock()
		tun := g.tunnels[l]
		if tun == nil {
			g.mu.Unlock()
			return nil, nil
		}
		if s := tun.active; s != nil {
			g.mu.Unlock()
			return s, nil
		}
		if tun.await >= maxWaiting {
			g.mu.Unlock()
			return nil, errBusy
		}
		tun.await++
		settled := tun.settle
		g.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(settleWait)
			defer timer.Stop()
			late = timer.C
		}
		over := false
		select {
		case <-settled:
		case <-late:
			over = true
		case <-ctx.Done():
			over = true
		}
		g.mu.Lock()
		tun.await--
		g.mu.Unlock()
		if over {
			return nil, nil
		}
	}
}

// expect waits until a registration of l is announced, or until ctx ends, and
// reports which.
func (g *registry) expect(ctx context.Context, l label) bool {
	g.mu.Lock()
	if g.tunnels[l] != nil {
		g.mu.Unlock()
		return true
	}
	if g.expecting >= maxExpecting {
		g.mu.Unlock()
		return false
	}
	e := g.expected[l]
	if e == nil {
		e = &expectation{announced: make(chan struct{})}
		g.expected[l] = e
	}
	e.waiting++
	g.expecting++
	g.mu.Unlock()
	select {
	case <-e.announced:
		return true
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.expected[l] != e {
		return true // just now
	}
	g.expecting--
	if e.waiting--; e.waiting == 0 {
		delete(g.expected, l)
	}
	return false
}

// active returns a copy of the entries that have an active session, in no
// particular order.
func (g *registry) active() []tunnel {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]tunnel, 0, len(g.tunnels))
	for _, tun := range g.tunnels {
		if tun.active != nil {
			list = append(list, *tun)
		}
	}
	return list
}
