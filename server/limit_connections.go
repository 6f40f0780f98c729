package server

import (
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
// address is closed at once. Where the limit for all is reached, a new
// connection takes the place of the one that has waited longest for its next
// request, or for the first one to be whole: so sockets that say nothing, or
// say it slowly, keep nobody out. If all are busy, a new connection takes a
// reserved slot, of which there are reservedConnections.
type connLimit struct {
	max     int // zero: no limit
	perAddr int // zero: no limit
	exempt  func(netip.Addr) bool
	memory  *memory
	cost    int64 // of a connection without a request

	mu     sync.Mutex
	open   int
	byAddr map[netip.Addr]int
	idle   list.List // of *viewerConn, the one longest without a request first
}

func newConnLimit(total, perAddr int, exempt func(netip.Addr) bool, m *memory, cost int64) *connLimit {
	return &connLimit{max: total, perAddr: perAddr, exempt: exempt, memory: m, cost: cost, byAddr: make(map[netip.Addr]int)}
}

// admit counts lc, a new connection, and reports whether there is room for it.
// If not, it is closed.
func (l *connLimit) admit(lc *viewerConn) bool {
	addr, ok := parseAddr(lc.RemoteAddr().String())
	if ok && !l.exempt(addr) {
		lc.addr = subscriber(addr)
	}
	lc.memory.init(l.memory.hold(func() { reset(lc) }, addr))
	err := lc.memory.hold.Admit(l.cost)
	l.mu.Lock()
	full := errors.Is(err, budget.ErrPeer) || l.perAddr > 0 && lc.addr.IsValid() && l.byAddr[lc.addr] >= l.perAddr
	var idlest *viewerConn
	switch {
	case full:
	case err != nil: // memory is scarce
		if e := l.idle.Front(); e != nil {
			idlest = e.Value.(*viewerConn)
			l.removeLocked(idlest)
			lc.memory.hold.Add(l.cost)
		} else {
			full = true
		}
	case l.max > 0 && l.open >= l.max:
		if e := l.idle.Front(); e != nil {
			idlest = e.Value.(*viewerConn)
			l.removeLocked(idlest)
		} else {
			lc.spare = true
			full = l.open >= l.max+reservedConnections
		}
	}
	if !full {
		lc.counted = true
		l.open++
		if lc.addr.IsValid() {
			l.byAddr[lc.addr]++
		}
		lc.waits = l.idle.PushBack(lc)
	}
	l.mu.Unlock()
	if idlest != nil {
		reset(idlest.Conn)
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
	if c.addr.IsValid() {
		if l.byAddr[c.addr]--; l.byAddr[c.addr] == 0 {
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
	return l.open > l.max
}

// connState is for http.Server.
func (l *connLimit) connState(c net.Conn, state http.ConnState) {
	lc := viewerConnOf(c)
	if lc == nil {
		return
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
