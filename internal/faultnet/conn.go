package faultnet

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is one end of a link in memory.
type Conn struct {
	link          *Link
	in, out       *Direction
	local, remote net.Addr

	abrupt atomic.Bool // SetLinger(0)
	once   sync.Once
}

var _ net.Conn = (*Conn)(nil)

const pairAddr = Addr("198.51.100.1:1")

// Pair returns the two ends of a new link.
func Pair(o Options) (dialled, accepted *Conn) {
	return pair(newLink(o, 0, pairAddr, pairAddr), listenerAddr)
}

func pair(l *Link, acceptor net.Addr) (dialled, accepted *Conn) {
	return &Conn{link: l, in: l.Down, out: l.Up, local: l.From, remote: acceptor},
		&Conn{link: l, in: l.Up, out: l.Down, local: acceptor, remote: l.From}
}

// Link returns the connection's link.
func (c *Conn) Link() *Link { return c.link }

// Read implements [net.Conn].
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.opError("read", err)
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.opError("write", err)
}

func (c *Conn) opError(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// Close implements [net.Conn]. The other end gets what has been written, and
// then an end, or after SetLinger(0) ECONNRESET.
func (c *Conn) Close() error {
	c.once.Do(func() {
		end := io.EOF
		if c.abrupt.Load() {
			end = syscall.ECONNRESET
		}
		c.out.closeWrite(end)
		c.in.closeRead()
		c.link.endClosed()
	})
	return nil
}

// CloseWrite ends this end's direction and leaves the other open.
func (c *Conn) CloseWrite() error {
	c.out.closeWrite(io.EOF)
	return nil
}

// SetLinger is that of a [net.TCPConn] as far as zero goes: Close then resets
// the connection.
func (c *Conn) SetLinger(sec int) error {
	c.abrupt.Store(sec == 0)
	return nil
}

// LocalAddr implements [net.Conn].
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn].
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { c.in.setReadDeadline(t); return nil }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error { c.out.setWriteDeadline(t); return nil }

// Addr is the address of a [Conn] or a [Listener], host:port.
type Addr string

// Network implements [net.Addr].
func (Addr) Network() string { return "faultnet" }

func (a Addr) String() string { return string(a) }
