package server

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// stallListener limits how long its connections may take no bytes.
type stallListener struct {
	net.Listener
	timeout time.Duration
}

func (l *stallListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stallConn{Layer: netconn.Layer{Conn: c}, timeout: l.timeout}, nil
}

// stallConn fails a Write of which not one byte leaves within the timeout. It
// sits below TLS and HTTP, where partial progress can be seen: a slow viewer
// is served for as long as it takes anything at all.
type stallConn struct {
	netconn.Layer
	timeout time.Duration

	deadline atomic.Int64 // of SetWriteDeadline, in Unix nanoseconds; 0: none
	linger   atomic.Bool  // see lingerOnClose
}

// lingerTime bounds how long a connection lives on that lingers.
const lingerTime = time.Second

func (c *stallConn) Write(p []byte) (n int, err error) {
	for {
		d := time.Now().Add(c.timeout)
		set := c.deadline.Load()
		if set != 0 && set < d.UnixNano() {
			d = time.Unix(0, set)
		}
		c.Conn.SetWriteDeadline(d)
		k, err := c.Conn.Write(p[n:])
		n += k
		if err == nil || k == 0 || set != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// SetWriteDeadline sets a deadline beside the one that each Write has.
func (c *stallConn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadline.Store(0)
	} else {
		c.deadline.Store(t.UnixNano())
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline sets both deadlines.
func (c *stallConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close closes the connection, after a moment if it is to linger. It does not
// wait for that.
func (c *stallConn) Close() error {
	if !c.linger.Swap(false) || c.CloseWrite() != nil {
		return c.Conn.Close()
	}
	c.SetReadDeadline(time.Now().Add(lingerTime))
	go func() {
		_, _ = io.Copy(io.Discard, c.Conn)
		c.Conn.Close()
	}()
	return nil
}

// lingerOnClose makes the Close of c wait for what the viewer is sending: bytes
// that arrive at a closed connection would be answered by a reset, which may
// cost the viewer the answer. Nil, and what Serve has not accepted, is left as
// it is.
func lingerOnClose(c net.Conn) {
	if s, ok := netconn.Find[*stallConn](c); ok {
		s.linger.Store(true)
	}
}
