package server

import (
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/websocktunnel/websocktunnel/internal/budget"
)

// What things cost in memory, in bytes: estimates, rounded up, of what the runtime
// holds for each. docs/security.md has how they were measured.
const (
	connCost     = 16 << 10 // a viewer's connection: its goroutine and buffers
	tlsCost      = 16 << 10 // the same over TLS, more
	http2Cost    = 20 << 10 // the same, if it speaks HTTP/2, more
	blockCost    = 64 << 10 // an HTTP/2 header block that is not whole
	requestCost  = 16 << 10 // a request: its goroutine, stream, and x/net's buffer for the answer
	exchangeCost = 20 << 10 // a request that goes into a tunnel, more
	sessionCost  = 48 << 10
	fieldCost    = 128 // a header field, besides its name and value

	// headerFactor is what a byte of an HTTP/1 header costs that is not whole.
	headerFactor = 3

	// freeUnread is how much unread DATA a connection may always have.
	freeUnread = 64 << 10

	// plainAnswer is what the header of an answer may cost without being counted.
	plainAnswer = 4 << 10

	// bareRefusals is how many requests a connection over HTTP/2 may have under way
	// before those for which there is no room are refused without a body, which
	// has to wait for the viewer's window.
	bareRefusals = 8

	// pinned is what an exchange that waits for one side may make the other
	// side's connection hold.
	pinned = 512 << 10
)

// memory is the account of what the peers of a Server make it hold:
//
//	a viewer's connection   its buffers, unfinished headers, DATA that nobody reads
//	a request               its header, its goroutines, the header of its answer
//	a session               its buffers, DATA that no viewer takes
//
// A connection and a request are charged to the viewer's address, a session and
// the headers of answers to the tunnel, and all of it to the limit of the service.
// Near a limit those requests are cut first that keep most waiting, on either side,
// and have moved least.
type memory struct {
	*budget.Budget
	total                 int64 // 0: no limit
	perAddress, perTunnel int64
	trusted               atomic.Pointer[trustedProxies]
}

// Shares of the budget. The garbage collector takes as much as the budget again,
// at most. A tunnel and an address together are to need less than 200 MiB of a large
// machine.
const (
	budgetPart  = 2 // of the memory limit
	addressPart = 5 // of the budget
	tunnelPart  = 4

	maxAddressShare = 64 << 20
	maxTunnelShare  = 48 << 20

	// What may exceed the limits, by one part of so many: refusals that wait for
	// their viewers, new connections and their first requests, and the requests of
	// viewers that have behaved so far and hold nothing else.
	refusalReserve = 16
	freshReserve   = 4
	behavesReserve = 2
)

// newMemory returns the account for a limit of the process in bytes; 0 is none.
func newMemory(limit int64, trusted trustedProxies) *memory {
	total := limit / budgetPart
	m := &memory{
		Budget:     budget.New(total),
		total:      total,
		perAddress: min(total/addressPart, maxAddressShare),
		perTunnel:  min(total/tunnelPart, maxTunnelShare),
	}
	m.trusted.Store(&trusted)
	return m
}

// mayStandForMany is that of the trusted proxies.
func (m *memory) mayStandForMany(a netip.Addr) bool { return m.trusted.Load().mayStandForMany(a) }

// hold returns a Holding for addr, of nothing yet. A proxy that the operator has named
// stands for many, and has no account.
func (m *memory) hold(cut func(), addr netip.Addr) *budget.Holding {
	if !addr.IsValid() || m.trusted.Load().has(addr) {
		return m.Hold(cut, nil, 0)
	}
	return m.Hold(cut, subscriber(addr), m.perAddress)
}

// holdTunnel is hold for a tunnel.
func (m *memory) holdTunnel(cut func(), l label) *budget.Holding {
	return m.Hold(cut, l, m.perTunnel)
}

// headerCost returns what h costs.
func headerCost(h http.Header) (n int64) {
	for k, vv := range h {
		n += fieldCost + int64(len(k))
		for _, v := range vv {
			n += fieldCost/4 + int64(len(v))
		}
	}
	return n
}

// requestMemory is what one request of a viewer holds.
type requestMemory struct {
	*budget.Holding
	addr netip.Addr               // the viewer's
	conn *viewerConn              // nil if it is not known
	x    atomic.Pointer[exchange] // nil while there is none

	// Of a request from another node: what it holds of its body.
	unread *budget.Holding
	stream *streamMemory
}

// admitRequest charges r, whose route is rt, to its viewer. It returns false if there
// is no room for it; done has to be called when r is over in either case.
func (s *Server) admitRequest(r *http.Request, rt route) (m *requestMemory, ok bool) {
	m = &requestMemory{addr: s.live.Load().forwarding.clientAddr(r), conn: requestConn(r)}
	m.Holding = s.memory.hold(m.cut, m.addr)
	cost := requestCost + headerCost(r.Header) + 3*int64(len(r.RequestURI)+len(r.Host))
	if rt.kind == routeTunnel {
		cost += exchangeCost
	}
	reserve := int64(0)
	if m.conn != nil {
		reserve = m.conn.memory.begin()
	}
	if m.Admit(cost) == nil || reserve > 0 && m.AdmitReserved(cost, reserve) == nil {
		return m, true
	}
	return m, false
}

// done is called when the request is over. well says that it has ended well.
func (m *requestMemory) done(well bool) {
	m.Release()
	if m.unread != nil {
		m.stream.release()
		m.unread.Release()
	}
	if m.conn != nil {
		m.conn.memory.end(well)
	}
}

// cut ends the request soon.
func (m *requestMemory) cut() {
	if x := m.x.Load(); x != nil {
		x.cut()
	} else if m.conn != nil { // it does not take our answer
		reset(m.conn)
	}
}

// refuse answers a request, which is called id, for which there is no room: at once
// with 503, or, if too many such answers wait for their viewers, by the end of its connection, so that
// what follows on it costs no time either.
func (m *requestMemory) refuse(w http.ResponseWriter, r *http.Request, rt route, id string) {
	if m.conn != nil && r.ProtoMajor == 2 {
		// Many tunnel clients or viewers of one address that come at once, on a
		// connection each, have broken no rule.
		m.conn.turn.slowDown()
	}
	if m.AdmitReserved(requestCost, refusalReserve) != nil {
		if m.conn != nil {
			reset(m.conn)
		}
		panic(http.ErrAbortHandler)
	}
	f := *failMemory.answering(r, rt)
	f.bare = r.ProtoMajor == 2 && m.conn != nil && m.conn.memory.requests.Load() > bareRefusals
	leaveRest(w, r)
	m.Wait()
	clear(r.Header)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	f.write(w, r, id)
}

// answerCost returns what h costs, the header of an answer that x/net has made.
func answerCost(h http.Header) int64 {
	values := 0
	for _, vv := range h {
		values += len(vv)
	}
	// x/net makes room for as many names as there are values.
	return headerCost(h) + fieldCost*int64(values-len(h))
}

// admitAnswer charges the header of resp and the buffer for its body to the tunnel, or
// returns an error if there is no room for them. A plain answer costs nothing more.
func (a *attempt) admitAnswer(resp *http.Response) error {
	cost := answerCost(resp.Header)
	if buffer := copyBuffer(resp); buffer > smallBuffer {
		cost += int64(buffer)
	}
	if cost <= plainAnswer {
		return nil
	}
	err := a.memory.Admit(cost)
	if err != nil {
		a.via.slowDown()
	}
	return err
}
