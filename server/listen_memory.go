package server

import (
	"sync/atomic"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
)

// connMemory is what a viewer's connection holds besides its requests. It waits,
// and so can be cut when memory is scarce, while there is no request, unless an
// earlier one has ended well: those connections give way to new ones only.
type connMemory struct {
	hold   *budget.Holding
	refuse func()        // ends the connection: there is no room for what it has begun
	closed chan struct{} // closed with the connection

	http2  atomic.Bool
	busy   atomic.Bool  // there is a request
	header atomic.Int64 // what is charged for an HTTP/1 header
	read   atomic.Int64 // bytes of one that are not charged yet

	requests atomic.Int32 // under way
	begunAny atomic.Bool  // there has been one
	behaved  atomic.Bool  // one has ended well
}

// headerStep is how much of a header is charged at a time.
const headerStep = 4 << 10

func (m *connMemory) init(h *budget.Holding, refuse func()) {
	m.hold, m.refuse, m.closed = h, refuse, make(chan struct{})
	h.Wait()
}

// grow charges n bytes for what the viewer has begun, and ends the connection if there
// is no room for it.
func (m *connMemory) grow(n int64) {
	reserve := int64(freshReserve)
	if m.behaved.Load() {
		reserve = behavesReserve
	}
	if m.hold.AdmitReserved(n, reserve) != nil {
		m.hold.Add(n) // until it has gone
		m.refuse()
	}
}

// arrived charges n bytes that have come. While there is no request they are
// those of a header, which is kept until it is whole, or of a TLS handshake.
func (m *connMemory) arrived(n int) {
	if m.http2.Load() || m.busy.Load() {
		return
	}
	if m.read.Add(int64(n)) >= headerStep {
		cost := m.read.Swap(0) * headerFactor
		m.header.Add(cost)
		m.grow(cost)
	}
}

// setBusy says whether there is a request.
func (m *connMemory) setBusy(busy bool) {
	if m.busy.Swap(busy) == busy {
		return
	}
	if !busy {
		if !m.behaved.Load() {
			m.hold.Wait()
		}
		return
	}
	m.read.Store(0)
	m.hold.Done() // which does nothing if it does not wait
	m.hold.Add(-m.header.Swap(0))
}

// begin counts a request, and returns the reserve that it may use: none if it is
// not the only one of its connection.
func (m *connMemory) begin() (reserve int64) {
	switch n := m.requests.Add(1); {
	case n > 1:
		return 0
	case m.behaved.Load():
		return behavesReserve
	case m.begunAny.Swap(true):
		return 0
	}
	return freshReserve
}

// end is the counterpart of begin.
func (m *connMemory) end(well bool) {
	m.requests.Add(-1)
	if well {
		m.behaved.Store(true)
	}
}

func (m *connMemory) release() {
	m.hold.Release()
	close(m.closed)
}

// begun says that the connection speaks HTTP/2.
func (m *connMemory) begun() {
	m.http2.Store(true)
	m.hold.Add(-m.header.Swap(0))
	m.grow(http2Cost)
}

// unfinished is told of HTTP/2 header blocks that come in pieces.
func (m *connMemory) unfinished(is bool) {
	if is {
		m.grow(blockCost)
	} else {
		m.hold.Add(-blockCost)
	}
}

// unreadData is DATA that has come on a connection and that nobody has taken.
type unreadData struct {
	of    *budget.Holding
	done  <-chan struct{} // closed with the connection
	bytes atomic.Int64
}

// memory returns what the reader of the connection calls.
func (d *unreadData) memory() h2conn.Memory {
	return h2conn.Memory{
		Held: func(delta int64) {
			d.bytes.Add(delta)
			d.of.Add(delta)
		},
		Room: func() {
			if d.bytes.Load() > freeUnread {
				d.of.Room(d.done)
			}
		},
	}
}

// watchConfig is how the frames of a viewer's HTTP/2 are watched.
func (s *Server) watchConfig(c *viewerConn) h2conn.WatchConfig {
	m := &c.memory
	return h2conn.WatchConfig{
		MaxFrameSize:  viewerFrameSize,
		HeaderTimeout: s.cfg.headerTimeout,
		Begun:         m.begun,
		Headers:       m.unfinished,
		Flooded:       c.turn.slowDown,
		Memory:        (&unreadData{of: m.hold, done: m.closed}).memory(),
	}
}
