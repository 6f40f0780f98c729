package server

import (
	"net/http"
	"sync"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
)

// linkWindow is what answers on a link may hold of what no viewer takes, together: a link
// carries requests of many tunnels, of which each is charged for its own.
const linkWindow = 64 << 20

// linkMemory is DATA that has come on a link and that nobody has taken. It is charged to
// the limit of the service, and what belongs to a tunnel's request to that tunnel: then
// the request is cut if it stalls, its window does not grow beyond the tunnel's share, and
// other requests on the link go on.
type linkMemory struct{ unreadData }

func (d *linkMemory) memory() h2conn.Memory {
	m := d.unreadData.memory()
	m.Streams = true
	return m
}

// streamMemory is the part of one stream. It begins with charge, and ends with release.
type streamMemory struct {
	link *linkMemory
	hold *budget.Holding // charged for the tunnel

	mu    sync.Mutex
	over  bool
	bytes int64
}

func (m *streamMemory) memory() h2conn.StreamMemory {
	return h2conn.StreamMemory{Held: m.held, Full: m.hold.Crowded}
}

func (m *streamMemory) held(delta int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	delta = max(delta, -m.bytes)
	m.bytes += delta
	m.link.of.Add(-delta)
	m.hold.Add(delta)
}

// release gives back to the link what is left: flow control gives it back to the peer.
func (m *streamMemory) release() {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	m.over = true
	m.link.of.Add(m.bytes)
	m.hold.Add(-m.bytes)
}

// chargeRequest charges the tunnel of q for what has come of the body of r and has not been
// read, until release. It returns an error if the tunnel has used up its share.
func (s *Server) chargeRequest(m *requestMemory, r *http.Request, q *hopRequest, on *linkMemory) error {
	m.unread = s.memory.holdTunnel(m.cut, q.tunnel)
	m.stream = &streamMemory{link: on, hold: m.unread}
	h2conn.ChargeRequest(r, m.stream.memory())
	if r.Body == http.NoBody {
		return nil
	}
	return m.unread.Admit(0)
}

// chargeAnswer charges the tunnel for what comes of the answer, from a link, and is not
// read. It is called as soon as the stream is known.
func (a *attempt) chargeAnswer() {
	hop, ok := a.via.(*nodeHop)
	if !ok {
		return
	}
	m := &streamMemory{link: hop.link.memory, hold: a.memory}
	a.unread.Store(m)
	hop.link.follow(a.stream.Load(), a)
	hop.link.tr.ChargeStream(a.stream.Load(), m.memory())
	if a.isOver.Load() {
		a.dischargeAnswer()
	}
}

// dischargeAnswer undoes chargeAnswer, if that has been done. Again it does nothing.
func (a *attempt) dischargeAnswer() {
	if m := a.unread.Load(); m != nil {
		m.release()
		a.via.(*nodeHop).link.forget(a.stream.Load())
	}
}
