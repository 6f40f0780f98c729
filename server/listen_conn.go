package server

import (
	"bufio"
	"container/list"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// viewerListener accepts the connections that the limits of its Server admit.
type viewerListener struct {
	net.Listener
	srv *Server
}

func (l *viewerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		s := l.srv
		vc := &viewerConn{Layer: netconn.Layer{Conn: netconn.Raw(c)}, limit: s.connections}
		set := s.live.Load()
		vc.limitStall(set.StallTimeout)
		vc.reading.Store(true)
		if !s.connections.admit(vc) {
			continue
		}
		if vc.peer.IsValid() && !set.trusted.has(vc.peer) {
			vc.turn.addr = subscriber(vc.peer)
			s.turns.join(&vc.turn, vc.turn.addr)
		}
		if s.cfg.TLSConfig != nil {
			return vc, nil // its HTTP/2 is watched above TLS
		}
		w := h2conn.Watch(vc, s.watchConfig(vc))
		vc.watched.Store(w)
		return w, nil
	}
}

// viewerConn is a connection that Serve has accepted, from a viewer or, before
// its registration, a tunnel client.
//
//	counted   it takes a place of its connLimit
//	a tunnel  counted and timed no more: sessions have limits of their own
//	lingers   closed, but what the viewer still sends is read: listen_linger.go
//
// It fails a Write of which not one byte leaves within the stall limit. It sits
// below TLS and HTTP, where partial progress can be seen: a slow viewer is served
// for as long as it takes anything at all.
type viewerConn struct {
	netconn.Layer

	stall    atomic.Int64 // a duration; 0: none
	deadline atomic.Int64 // of SetWriteDeadline, in Unix nanoseconds; 0: none

	// The service reads the header of a request. What it writes meanwhile is the
	// refusal of one that it has not read to its end, but for handshakes, after
	// which lingering does no harm.
	reading atomic.Bool
	linger  atomic.Bool // see lingerOnClose
	closed  atomic.Bool

	memory  connMemory
	turn    turn
	watched atomic.Pointer[h2conn.WatchedConn] // nil while TLS has not chosen HTTP/2

	limit *connLimit
	peer  netip.Addr // the zero Addr if it has none
	addr  netip.Addr // the zero Addr is exempt from the limit of an address
	spare bool       // came when the limit for all was reached

	// Guarded by limit.mu.
	counted bool
	waits   *list.Element // in limit.idle, while there is no request

	// In limit.lingering and that of its address, while it lingers.
	lingers, lingersOf *list.Element
}

// viewerConnOf returns the viewerConn under c, or nil.
func viewerConnOf(c net.Conn) *viewerConn {
	vc, _ := netconn.Find[*viewerConn](c)
	return vc
}

// limitStall sets the stall limit; zero is none.
func (c *viewerConn) limitStall(d time.Duration) {
	if c.stall.Load() != int64(d) { // storing costs more
		c.stall.Store(int64(d))
	}
}

// becomeTunnel is for a connection on which a tunnel client registers: h2conn times
// its writes.
func (c *viewerConn) becomeTunnel() {
	c.stall.Store(0)
	c.Conn.SetWriteDeadline(time.Time{})
}

// uncount takes the connection out of the limits for viewers' ones: a session has
// limits of its own.
func (c *viewerConn) uncount() { c.limit.remove(c) }

func (c *viewerConn) Read(p []byte) (int, error) {
	c.ReadBegins()
	n, err := c.Conn.Read(p)
	c.ReadEnded(n)
	return n, err
}

// ReadBegins is for [netconn.Source]: turns begin and end with reads.
func (c *viewerConn) ReadBegins() { c.turn.end() }

// ReadEnded is its counterpart.
func (c *viewerConn) ReadEnded(n int) {
	c.memory.arrived(n)
	if n > 0 && !c.turn.visits.Load() {
		c.turn.begin()
	}
}

func (c *viewerConn) Write(p []byte) (int, error) {
	if !c.memory.http2.Load() {
		c.turn.end()
	}
	if c.reading.Load() {
		c.linger.Store(true)
	}
	stall := time.Duration(c.stall.Load())
	if stall <= 0 {
		return c.Conn.Write(p)
	}
	return writeMoving(c.Conn, p, stall, c.deadline.Load())
}

// writeMoving writes p to c and fails when nothing of it leaves within stall, or
// at deadline, in Unix nanoseconds, if that is not 0.
func writeMoving(c net.Conn, p []byte, stall time.Duration, deadline int64) (n int, err error) {
	for {
		d := time.Now().Add(stall)
		if deadline != 0 && deadline < d.UnixNano() {
			d = time.Unix(0, deadline)
		}
		c.SetWriteDeadline(d)
		k, err := c.Write(p[n:])
		n += k
		if err == nil || k == 0 || deadline != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// PassThrough is for [netconn.Socket]: writes are not timed any more once the connection
// is a tunnel.
func (c *viewerConn) PassThrough() net.Conn {
	if c.stall.Load() > 0 {
		return nil
	}
	return c.Conn
}

// SetWriteDeadline sets a deadline beside the one that each Write has.
func (c *viewerConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadline.Store(0)
	} else {
		c.deadline.Store(t.UnixNano())
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *viewerConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection, or makes it linger. It does not wait for that.
func (c *viewerConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	c.turn.end()
	if c.linger.Load() && c.limit.linger(c) && c.CloseWrite() == nil {
		go c.dropRest()
		return nil
	}
	c.limit.remove(c)
	return c.Conn.Close()
}

// reset closes c so that its peer sees an error rather than an end.
func reset(c net.Conn) {
	if vc := viewerConnOf(c); vc != nil {
		vc.limit.remove(vc) // the code that has hijacked c does not close it
	}
	netconn.Reset(c)
}

// upgradedViewer is a viewer's connection after the 101. Its Close is no clean
// end if the tunnel's side has broken, nor is the end of the process.
type upgradedViewer struct {
	netconn.Layer
	x *exchange

	// early has what net/http has read already: the viewer did not wait for the
	// 101. ReverseProxy reads from the connection only, and would lose it.
	early *bufio.Reader

	// stall limits a write where no viewerConn is below: to a stream of HTTP/2.
	stall time.Duration

	interrupted atomic.Bool
}

func newUpgradedViewer(x *exchange, c net.Conn, brw *bufio.ReadWriter) *upgradedViewer {
	u := &upgradedViewer{Layer: netconn.Layer{Conn: c}, x: x, early: brw.Reader}
	if !x.http1 {
		u.stall = x.viewerStall()
		brw.Writer.Reset(u)
	}
	netconn.SetLinger(c, 0)
	return u
}

func (u *upgradedViewer) Read(p []byte) (int, error) {
	if u.early.Buffered() > 0 {
		return u.early.Read(p)
	}
	n, err := u.Conn.Read(p)
	if !errors.Is(err, io.EOF) && !u.interrupted.Load() {
		u.failed(err)
	}
	return n, err
}

// InterruptRead ends a Read, and all that come until ResumeRead.
func (u *upgradedViewer) InterruptRead() {
	u.interrupted.Store(true)
	u.SetReadDeadline(time.Unix(1, 0))
}

// ResumeRead undoes InterruptRead.
func (u *upgradedViewer) ResumeRead() {
	u.SetReadDeadline(time.Time{})
	u.interrupted.Store(false)
}

func (u *upgradedViewer) Write(p []byte) (n int, err error) {
	u.x.waits()
	defer u.x.moves()
	if u.stall > 0 {
		n, err = writeMoving(u.Conn, p, u.stall, 0)
	} else {
		n, err = u.Conn.Write(p)
	}
	u.failed(err)
	return n, err
}

// failed notes that the viewer's side broke, unless err is nil or comes of our own Close.
func (u *upgradedViewer) failed(err error) {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		u.x.w.failed.Store(true)
	}
}

func (u *upgradedViewer) Close() error {
	if a := u.x.answer; a == nil || a.broken.Load() != nil {
		reset(u.Conn)
		return nil
	}
	netconn.SetLinger(u.Conn, -1)
	return u.Conn.Close()
}
