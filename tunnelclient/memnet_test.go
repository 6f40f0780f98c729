package tunnelclient_test

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// memListener is a listener whose connections are in memory, so that whole
// sessions can live in a synctest bubble.
type memListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}

	mu     sync.Mutex
	local  net.Addr // of the next connection's client
	newest *memConn // the client's end
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), done: make(chan struct{}), local: memAddr{}}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr{} }

func (l *memListener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	a, b := newHalf(), newHalf()
	l.mu.Lock()
	local, remote := l.local, net.Addr(memAddr{})
	if _, ok := local.(*net.TCPAddr); ok {
		remote = serviceAddr
	}
	l.mu.Unlock()
	c := &memConn{r: b, w: a, local: local, remote: remote}
	select {
	case l.conns <- &memConn{r: a, w: b, local: remote, remote: local}:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.newest = c
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "dial", Net: "mem", Err: os.NewSyscallError("connect", os.ErrNotExist)}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dialFrom sets the address that the next connections come from.
func (l *memListener) dialFrom(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.local = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a, 12345))
}

// toService and toClient return the directions of the newest connection.
func (l *memListener) toService() *half {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest.w
}

func (l *memListener) toClient() *half {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest.r
}

// serviceAddr is the service's address for clients that dial from one of TCP.
var serviceAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443"))

type memAddr struct{}

func (memAddr) Network() string { return "mem" }
func (memAddr) String() string  { return "mem:1" }

// half is one direction of a memConn: an unbounded buffer.
type half struct {
	mu       sync.Mutex
	cond     sync.Cond
	buf      []byte
	closed   bool
	lost     bool // what is written vanishes
	limit    int  // of buf, for a peer that does not read; 0: none
	writes   int
	deadline time.Time
	timer    *time.Timer
}

func newHalf() *half {
	h := &half{}
	h.cond.L = &h.mu
	return h
}

func (h *half) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	if h.timer != nil {
		h.timer.Stop()
	}
	h.cond.Broadcast()
}

// lose lets everything vanish that is written from now on, as in a cable that
// was pulled out.
func (h *half) lose() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = true
}

// block lets only n more bytes be written, as to a peer that does not read.
func (h *half) block(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf, h.lost = nil, false
	h.limit = n
}

// written returns how often something was written.
func (h *half) written() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.writes
}

// hold keeps what is written from the reader, until release.
func (h *half) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = 1 << 20
}

func (h *half) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = 0
	h.cond.Broadcast()
}

type memConn struct {
	r, w          *half
	local, remote net.Addr
}

func (c *memConn) Read(p []byte) (int, error) {
	h := c.r
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case !h.deadline.IsZero() && !time.Now().Before(h.deadline):
			return 0, os.ErrDeadlineExceeded
		case len(h.buf) > 0 && h.limit == 0:
			n := copy(p, h.buf)
			h.buf = h.buf[n:]
			return n, nil
		case h.closed:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (c *memConn) Write(p []byte) (int, error) {
	h := c.w
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	h.writes++
	for {
		if h.closed {
			return n, io.ErrClosedPipe
		}
		if h.lost {
			return len(p), nil
		}
		k := len(p) - n
		if h.limit > 0 {
			k = min(k, h.limit-len(h.buf))
		}
		h.buf = append(h.buf, p[n:n+k]...)
		h.cond.Broadcast()
		if n += k; n == len(p) {
			return n, nil
		}
		h.cond.Wait()
	}
}

func (c *memConn) Close() error {
	c.r.close()
	c.w.close()
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	h := c.r
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deadline = t
	if h.timer != nil {
		h.timer.Stop()
	}
	if !t.IsZero() {
		h.timer = time.AfterFunc(time.Until(t), func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	h.cond.Broadcast()
	return nil
}

func (c *memConn) SetWriteDeadline(time.Time) error { return nil }
func (c *memConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memConn) LocalAddr() net.Addr              { return c.local }
func (c *memConn) RemoteAddr() net.Addr             { return c.remote }

// websocketAccept answers a Sec-WebSocket-Key (RFC 6455, section 4.2.2).
func websocketAccept(key string) string {
	h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(h[:])
}
