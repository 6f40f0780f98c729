package server

import (
	"errors"
	"net"
)

// A connection of a viewer has layers: TLS, and what this package wraps around
// connections. Each has a NetConn method that returns the one beneath.

// beneath returns the connection under c, or nil if c is the last.
func beneath(c net.Conn) net.Conn {
	if n, ok := c.(interface{ NetConn() net.Conn }); ok {
		return n.NetConn()
	}
	return nil
}

// under returns the first layer of c that is a T, which may be c.
func under[T net.Conn](c net.Conn) (layer T, ok bool) {
	for ; c != nil; c = beneath(c) {
		if layer, ok = c.(T); ok {
			return layer, true
		}
	}
	return layer, false
}

// bottom returns the last layer of c.
func bottom(c net.Conn) net.Conn {
	for next := beneath(c); next != nil; next = beneath(c) {
		c = next
	}
	return c
}

// closeWrite ends the sending direction of c, as a *net.TCPConn can.
func closeWrite(c net.Conn) error {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// reset closes c so that its peer sees an error rather than an end. Over TLS
// that is also the lack of close_notify.
func reset(c net.Conn) {
	setLinger(c, 0)
	if lc := limited(c); lc != nil {
		lc.uncount() // whoever has hijacked c closes it no more
	}
	bottom(c).Close()
}

// setLinger sets what closing c does with bytes that have not left: 0 for a
// reset, -1 for the usual.
func setLinger(c net.Conn, sec int) {
	if l, ok := bottom(c).(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(sec)
	}
}

// lingerOnClose makes the Close of c wait for what the viewer is sending: bytes
// that arrive at a closed connection would be answered by a reset, which may
// cost the viewer the answer. Nil, and what Serve has not accepted, is left as
// it is.
func lingerOnClose(c net.Conn) {
	if s, ok := under[*stallConn](c); ok {
		s.linger.Store(true)
	}
}
