package server

import (
	"errors"
	"net"
	"os"
	"time"
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
	return &stallConn{c, l.timeout}, nil
}

// stallConn fails a Write of which not one byte leaves within the timeout. It
// sits below TLS and HTTP, where partial progress can be seen: a slow viewer
// is served for as long as it takes anything at all.
type stallConn struct {
	net.Conn
	timeout time.Duration
}

func (c *stallConn) Write(p []byte) (n int, err error) {
	for {
		c.Conn.SetWriteDeadline(time.Now().Add(c.timeout))
		k, err := c.Conn.Write(p[n:])
		n += k
		if err == nil || k == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// SetWriteDeadline does nothing: Write has its own.
func (c *stallConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the read deadline only.
func (c *stallConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// CloseWrite is for what looks for it on a *net.TCPConn.
func (c *stallConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset closes the connection so that the peer sees an error rather than an
// end.
func (c *stallConn) reset() error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
	return c.Close()
}
