package server

import (
	"cmp"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"
)

const (
	// turnTime is how long a turn lasts at most while others wait for it. It is work
	// for the processor, so one that lasts longer waits for something else.
	turnTime = 20 * time.Millisecond

	// Peers that have just broken a limit get a part of one processor only: for
	// slowTime each of their turns is followed by a rest that is restFactor times as
	// long.
	slowTime   = 2 * time.Second
	restFactor = 3
)

// turnLimit shares the processors among peers. The Go scheduler does not: it runs what
// can run in the order in which it came, so an address that sends on a thousand
// connections delays another's request by a thousand pieces of work, at each of the
// dozen steps that a request takes. Here a peer, which is an address or a tunnel, has
// half of the processors at most: as many of its connections have their turn, and what
// has come on the others waits.
//
// A turn begins when bytes have been read, or with a request over HTTP/1, and ends when
// what they have asked for is done or waits for something else: at the next Read, at a
// Write over HTTP/1, or when a request goes into a tunnel.
type turnLimit struct {
	// processors is how many the program may use, also where it does with fewer just now.
	// Zero means as many as when a peer comes.
	processors int

	mu sync.Mutex
	of map[any]weak.Pointer[turns] // by peer; its connections keep them
}

// provenPeer is the peer that the connections of an address are on which a tunnel has
// answered a request. They do not wait for what the others of the address send.
type provenPeer netip.Addr

// prove says that a tunnel has answered a request that came on the connection of t.
func (l *turnLimit) prove(t *turn) {
	if t.addr.IsValid() && !t.proven.Swap(true) {
		l.join(t, provenPeer(t.addr))
	}
}

// visit begins a turn of addr on a connection over HTTP/1 that is a proxy's and has none of
// its own: for one request, whose header has been read.
func (l *turnLimit) visit(t *turn, addr netip.Addr) {
	l.join(t, subscriber(addr))
	t.visits.Store(true)
	t.begin()
}

// join makes t one of the turns of peer.
func (l *turnLimit) join(t *turn, peer any) {
	l.mu.Lock()
	if l.of == nil {
		l.of = make(map[any]weak.Pointer[turns])
	}
	all := l.of[peer].Value()
	if all == nil {
		all = &turns{most: max(1, cmp.Or(l.processors, runtime.GOMAXPROCS(0))/2)}
		l.of[peer] = weak.Make(all)
		runtime.AddCleanup(all, l.forget, peer)
	}
	l.mu.Unlock()
	t.visits.Store(false)
	if before := t.place.Swap(&turnPlace{of: all}); before != nil {
		before.leave()
	}
}

// forget drops the turns of peer unless there are new ones.
func (l *turnLimit) forget(peer any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[peer].Value() == nil {
		delete(l.of, peer)
	}
}

// turns are those of one peer.
type turns struct {
	most int // at a time

	mu      sync.Mutex
	holders []*turnPlace // the longest first
	resting int          // turns that are over, and count
	waiting []*turnPlace // the longest first
	ended   uint64       // how many have ended
	given   uint64       // how many have been given to one that waited
	slow    time.Time    // until when turns are followed by a rest
}

// turn is that of one connection. The zero turn never waits.
type turn struct {
	addr   netip.Addr // the zero Addr: none that has turns
	proven atomic.Bool
	visits atomic.Bool // for one request: what comes next may be another viewer's
	place  atomic.Pointer[turnPlace]
}

// turnPlace is the place of a connection among the turns of one peer. A connection that
// joins those of another peer has a new place there: one goroutine may still read from it
// for the first peer while another works for the second.
type turnPlace struct {
	of   *turns
	held atomic.Bool // whether it has a turn; changed with of.mu held

	// Guarded by of.mu.
	left  bool // for the turns of another peer: it never gets one here again
	waits bool
	had   int       // how often it has been given
	since time.Time // when it began, if its peer was slow
	come  chan struct{}
}

// begin waits for the turn.
func (t *turn) begin() {
	p := t.place.Load()
	if p == nil || p.held.Load() {
		return
	}
	of := p.of
	of.mu.Lock()
	if p.left || p.waits { // another goroutine does
		of.mu.Unlock()
		return
	}
	if len(of.holders)+of.resting < of.most {
		of.giveLocked(p)
		of.mu.Unlock()
		return
	}
	if p.come == nil {
		p.come = make(chan struct{}, 1)
	}
	p.waits = true
	of.waiting = append(of.waiting, p)
	if len(of.waiting) == 1 {
		of.watch(of.ended)
	}
	of.mu.Unlock()
	<-p.come
}

// end ends the turn of t, which may be nil, if there is one.
func (t *turn) end() {
	if t == nil {
		return
	}
	if p := t.place.Load(); p != nil && p.held.Load() {
		p.of.mu.Lock()
		defer p.of.mu.Unlock()
		p.of.endLocked(p)
	}
}

// leave ends the turn at p, or the wait for it, for good.
func (p *turnPlace) leave() {
	of := p.of
	of.mu.Lock()
	defer of.mu.Unlock()
	p.left = true
	if p.waits {
		i := slices.Index(of.waiting, p)
		of.waiting = slices.Delete(of.waiting, i, i+1)
		p.waits = false
		p.come <- struct{}{}
	}
	of.endLocked(p)
}

// slowDown has the peer of t, which may be nil, rest between its turns for a while.
func (t *turn) slowDown() {
	if t == nil {
		return
	}
	if p := t.place.Load(); p != nil {
		p.of.mu.Lock()
		defer p.of.mu.Unlock()
		p.of.slow = time.Now().Add(slowTime)
	}
}

func (of *turns) giveLocked(p *turnPlace) {
	p.held.Store(true)
	of.holders = append(of.holders, p)
	p.had++
	if p.since = (time.Time{}); !of.slow.IsZero() {
		p.since = time.Now()
	}
}

// endLocked ends the turn at p, if there is one.
func (of *turns) endLocked(p *turnPlace) {
	i := slices.Index(of.holders, p)
	if i < 0 {
		return
	}
	p.held.Store(false)
	of.holders = slices.Delete(of.holders, i, i+1)
	of.ended++
	if rest := of.restLocked(p); rest > 0 {
		of.resting++
		time.AfterFunc(rest, func() {
			of.mu.Lock()
			defer of.mu.Unlock()
			of.resting--
			of.nextLocked()
		})
	}
	of.nextLocked()
}

// restLocked returns how long the rest after the turn at p is.
func (of *turns) restLocked(p *turnPlace) time.Duration {
	if of.slow.IsZero() || p.since.IsZero() {
		return 0
	}
	now := time.Now()
	if now.After(of.slow) {
		of.slow = time.Time{}
		return 0
	}
	return restFactor * min(now.Sub(p.since), turnTime)
}

// nextLocked gives a turn to a connection that waits, if there is one: every other time
// to the one that has had the fewest, since a fresh connection is not to wait for all
// that the others send, and otherwise to the one that has waited longest.
func (of *turns) nextLocked() {
	if len(of.waiting) == 0 || len(of.holders)+of.resting >= of.most {
		return
	}
	i := 0
	if of.given++; of.given%2 == 0 {
		for k, p := range of.waiting {
			if p.had < of.waiting[i].had {
				i = k
			}
		}
	}
	p := of.waiting[i]
	of.waiting = slices.Delete(of.waiting, i, i+1)
	p.waits = false
	of.giveLocked(p)
	p.come <- struct{}{}
}

// watch ends the longest turn if none has ended by itself since there were so many.
func (of *turns) watch(ended uint64) {
	time.AfterFunc(turnTime, func() {
		of.mu.Lock()
		defer of.mu.Unlock()
		if len(of.waiting) == 0 {
			return
		}
		if of.ended == ended && len(of.holders) > 0 {
			of.endLocked(of.holders[0])
		}
		of.watch(of.ended)
	})
}
