package server

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
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

// connLimit bounds the connections that are no tunnels. What is over the limit
// of an address is closed at once. Where the limit for all is reached, a new
// connection takes the place of the one that has waited longest for its next
// request, or for the first one to be whole: so sockets that say nothing, or
// say it slowly, keep nobody out. Only where all are busy is a new one a spare
// one, of reservedConnections.
type connLimit struct {
	max     int // zero: no limit
	perAddr int // zero: no limit
	exempt  func(netip.Addr) bool

	mu     sync.Mutex
	open   int
	byAddr map[netip.Addr]int
	idle   list.List // of *limitedConn, the one longest without a request first
}

func newConnLimit(total, perAddr int, exempt func(netip.Addr) bool) *connLimit {
	return &connLimit{max: total, perAddr: perAddr, exempt: exempt, byAddr: make(map[netip.Addr]int)}
}

// admit returns c counted, or nil if there is no room for it. Then c is closed.
func (l *connLimit) admit(c net.Conn) net.Conn {
	lc := &limitedConn{Layer: netconn.Layer{Conn: c}, limit: l}
	if addr, ok := parseAddr(c.RemoteAddr().String()); ok && !l.exempt(addr) {
		lc.addr = subscriber(addr)
	}
	l.mu.Lock()
	full := l.perAddr > 0 && lc.addr.IsValid() && l.byAddr[lc.addr] >= l.perAddr
	var idlest *limitedConn
	if !full && l.max > 0 && l.open >= l.max {
		if e := l.idle.Front(); e != nil {
			idlest = e.Value.(*limitedConn)
			idlest.uncountLocked()
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
		reset(c) // nothing is to stay behind, not even in the kernel
		return nil
	}
	return lc
}

// overfull reports whether c is a spare connection, while there are too many.
func (l *connLimit) overfull(c net.Conn) bool {
	lc := limited(c)
	if lc == nil || !lc.spare {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open > l.max
}

// connState is for http.Server.
func (l *connLimit) connState(c net.Conn, state http.ConnState) {
	lc := limited(c)
	if lc == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !lc.counted:
	case state == http.StateIdle && lc.waits == nil:
		lc.waits = l.idle.PushBack(lc)
	case state == http.StateActive || state == http.StateHijacked:
		lc.busyLocked()
	}
}

// limitedConn is a connection that a connLimit counts.
type limitedConn struct {
	netconn.Layer
	limit *connLimit
	addr  netip.Addr // the zero Addr is exempt from the limit of an address
	spare bool       // came when the limit for all was reached

	// Guarded by limit.mu.
	counted bool
	waits   *list.Element // in limit.idle, while there is no request
}

func (c *limitedConn) busyLocked() {
	if c.waits != nil {
		c.limit.idle.Remove(c.waits)
		c.waits = nil
	}
}

func (c *limitedConn) uncountLocked() {
	if !c.counted {
		return
	}
	c.counted = false
	c.busyLocked()
	l := c.limit
	l.open--
	if c.addr.IsValid() {
		if l.byAddr[c.addr]--; l.byAddr[c.addr] == 0 {
			delete(l.byAddr, c.addr)
		}
	}
}

// uncount is for a connection that has become a tunnel: those have limits of
// their own, and a tunnel must not take a viewer's place.
func (c *limitedConn) uncount() {
	c.limit.mu.Lock()
	defer c.limit.mu.Unlock()
	c.uncountLocked()
}

func (c *limitedConn) Close() error {
	c.uncount()
	return c.Conn.Close()
}

// reset closes c so that its peer sees an error rather than an end.
func reset(c net.Conn) {
	if lc := limited(c); lc != nil {
		lc.uncount() // whoever has hijacked c closes it no more
	}
	netconn.Reset(c)
}

// limited returns the limitedConn under c, or nil.
func limited(c net.Conn) *limitedConn {
	lc, _ := netconn.Find[*limitedConn](c)
	return lc
}

// limitListener accepts what limit admits.
type limitListener struct {
	net.Listener
	limit *connLimit
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if lc := l.limit.admit(c); lc != nil {
			return lc, nil
		}
	}
}
