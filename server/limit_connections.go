package server

import (
	"cmp"
	"container/list"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/websocktunnel/websocktunnel/internal/budget"
)

const (
	// mostConnections is how many there may be by default. A connection holds
	// some 20 KiB before its request is whole.
	mostConnections = 50_000

	// mostConnectionsPerAddress is more than any viewer needs, also many behind
	// one address.
	mostConnectionsPerAddress = 2000

	// reservedConnections is how many connections there may be above the limit.
	// A tunnel client can register on them, and viewers get 503.
	reservedConnections = 64
)

// connLimit bounds the connections that are no tunnels. One over the limit of its
// address is closed at once, unless one of that address lingers. Where the limit
// for all is reached, a new connection takes the place of the one that has lingered
// longest or, if none lingers, has waited longest for its next request, or for the
// first one to be whole: so sockets that say nothing, or say it slowly, keep nobody
// out. If all are busy, a new connection takes a reserved slot, of which there are
// reservedConnections.
type connLimit struct {
	exempt func(netip.Addr) bool
	memory *memory
	cost   int64 // of a connection without a request

	mu        sync.Mutex
	max       int // zero: no limit
	perAddr   int // zero: no limit
	open      int
	byAddr    map[netip.Addr]*addrConns
	idle      list.List     // of *viewerConn, the one longest without a request first
	lingering list.List     // of *viewerConn, the one that began first in front
	settled   chan struct{} // not nil while settle waits; closed when none lingers
	stopped   bool          // none lingers any more
}

// addrConns are the connections of one address.
type addrConns struct {
	open      int
	lingering list.List // as in connLimit
}

func newConnLimit(total, perAddr int, exempt func(netip.Addr) bool, m *memory, cost int64) *connLimit {
	return &connLimit{max: total, perAddr: perAddr, exempt: exempt, memory: m, cost: cost, byAddr: make(map[netip.Addr]*addrConns)}
}

// setLimits changes the limits for connections from now on.
func (l *connLimit) setLimits(total, perAddr int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max, l.perAddr = total, perAddr
}

// admit counts lc, a new connection, and reports whether there is room for it.
// If not, it is closed.
func (l *connLimit) admit(lc *viewerConn) bool {
	addr, ok := parseAddr(lc.RemoteAddr().String())
	lc.peer = addr
	if ok && !l.exempt(addr) {
		lc.addr = subscriber(addr)
	}
	cut := func() { reset(lc) }
	refuse := func() { // what it has begun: a header of many kilobytes, or HTTP/2
		lc.turn.slowDown()
		reset(lc)
	}
	lc.memory.init(l.memory.hold(cut, addr), refuse)
	err := lc.memory.hold.AdmitReserved(l.cost, freshReserve)
	l.mu.Lock()
	var givesWay *viewerConn
	a := l.byAddr[lc.addr] // nil for the zero Addr
	full := errors.Is(err, budget.ErrPeer) || l.perAddr > 0 && a != nil && a.open >= l.perAddr
	switch {
	case full:
		if a != nil {
			givesWay = first(&a.lingering)
			full = givesWay == nil
		}
	case err != nil: // memory is scarce
		givesWay = cmp.Or(first(&l.lingering), first(&l.idle))
		full = givesWay == nil
	case l.max > 0 && l.open >= l.max:
		givesWay = cmp.Or(first(&l.lingering), first(&l.idle))
		lc.spare = givesWay == nil
		full = lc.spare && l.open >= l.max+reservedConnections
	}
	if givesWay != nil {
		l.removeLocked(givesWay)
		if err != nil {
			lc.memory.hold.Add(l.cost)
		}
	}
	if !full {
		l.addLocked(lc)
	}
	l.mu.Unlock()
	if givesWay != nil {
		reset(givesWay.Conn)
	}
	if full {
		lc.memory.release()
		reset(lc) // nothing is to stay behind, not even in the kernel
	}
	return !full
}

// count returns how many connections are open.
func (l *connLimit) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// first returns the first connection of list, or nil.
func first(list *list.List) *viewerConn {
	if e := list.Front(); e != nil {
		return e.Value.(*viewerConn)
	}
	return nil
}

func (l *connLimit) addLocked(c *viewerConn) {
	c.counted = true
	l.open++
	if c.addr.IsValid() {
		if l.byAddr[c.addr] == nil {
			l.byAddr[c.addr] = new(addrConns)
		}
		l.byAddr[c.addr].open++
	}
	c.waits = l.idle.PushBack(c)
}

// busyLocked notes that there is a request on c.
func (l *connLimit) busyLocked(c *viewerConn) {
	if c.waits != nil {
		l.idle.Remove(c.waits)
		c.waits = nil
		c.memory.setBusy(true)
	}
}

// remove takes c out of the count, if it is in it.
func (l *connLimit) remove(c *viewerConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(c)
}

func (l *connLimit) removeLocked(c *viewerConn) {
	if !c.counted {
		return
	}
	c.counted = false
	l.busyLocked(c)
	c.memory.release()
	l.open--
	if c.lingers != nil {
		l.lingering.Remove(c.lingers)
		if l.settled != nil && l.lingering.Len() == 0 {
			close(l.settled)
			l.settled = nil
		}
	}
	if a := l.byAddr[c.addr]; a != nil {
		if c.lingersOf != nil {
			a.lingering.Remove(c.lingersOf)
		}
		if a.open--; a.open == 0 {
			delete(l.byAddr, c.addr)
		}
	}
}

// overfull reports whether c is a spare connection, while there are too many.
func (l *connLimit) overfull(c *viewerConn) bool {
	if !c.spare {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open-l.lingering.Len() > l.max
}

// connState is for http.Server.
func (l *connLimit) connState(c net.Conn, state http.ConnState) {
	lc := viewerConnOf(c)
	if lc == nil {
		return
	}
	switch state {
	case http.StateActive:
		lc.linger.Store(false)
		lc.reading.Store(true)
	case http.StateIdle:
		lc.reading.Store(false)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !lc.counted:
	case state == http.StateIdle && lc.waits == nil:
		lc.waits = l.idle.PushBack(lc)
		lc.memory.setBusy(false)
	case state == http.StateActive || state == http.StateHijacked:
		l.busyLocked(lc)
	}
}
