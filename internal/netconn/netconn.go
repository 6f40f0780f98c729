// Package netconn has what several packages need to know about a [net.Conn]
// with layers: TLS, and the wrappers of this project. A layer that has a NetConn
// method shows the one beneath it.
package netconn

import (
	"errors"
	"net"
)

// Layer is a [net.Conn] on top of another one. Wrappers embed it: then what
// looks for the TCP connection finds it, and the sending direction can be ended
// through them.
type Layer struct{ net.Conn }

// NetConn returns the connection beneath.
func (l Layer) NetConn() net.Conn { return l.Conn }

// CloseWrite ends the sending direction, as on a [net.TCPConn].
func (l Layer) CloseWrite() error { return CloseWrite(l.Conn) }

// SetLinger is that of the TCP connection beneath, for code that looks for it on a
// [net.TCPConn]. A unix socket has none.
func (l Layer) SetLinger(sec int) error {
	if c, ok := Find[interface{ SetLinger(sec int) error }](l.Conn); ok {
		return c.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

// Beneath returns the connection under c, or nil if c is the last.
func Beneath(c net.Conn) net.Conn {
	if n, ok := c.(interface{ NetConn() net.Conn }); ok {
		return n.NetConn()
	}
	return nil
}

// passer is a layer that may hand on what is written and read as it is: PassThrough
// returns the connection beneath or, as long as it does anything to either, nil.
type passer interface{ PassThrough() net.Conn }

// HasPassThrough reports whether c has that method: see [Socket].
func HasPassThrough(c net.Conn) bool {
	_, ok := c.(passer)
	return ok
}

// Socket returns the TCP connection under c if what is written to c goes there as it
// is, and what is read comes from there: each layer above has a PassThrough method,
// which returns the connection beneath or, as long as it does anything to either, nil.
// Otherwise Socket returns nil.
func Socket(c net.Conn) *net.TCPConn {
	for c != nil {
		switch c := c.(type) {
		case *net.TCPConn:
			return c
		case *rawConn:
			tcp, _ := c.Conn.(*net.TCPConn)
			return tcp
		}
		layer, ok := c.(passer)
		if !ok {
			return nil
		}
		c = layer.PassThrough()
	}
	return nil
}

// A ReadObserver is a layer that hands on what comes as it is, and has to see each Read
// all the same. Who reads from beneath it instead tells it.
type ReadObserver interface {
	// ReadBegins is called before each Read of what is beneath.
	ReadBegins()

	// ReadEnded is called after it, and n bytes have come.
	ReadEnded(n int)
}

// Source returns what to read from instead of c: the lowest layer that hands on what
// comes from the network as it is, or the first that has to see each Read all the same,
// a [ReadObserver].
func Source(c net.Conn) net.Conn {
	for {
		if _, ok := c.(ReadObserver); ok {
			return c
		}
		layer, ok := c.(passer)
		if !ok {
			return c
		}
		next := layer.PassThrough()
		if next == nil {
			return c
		}
		c = next
	}
}

// Find returns the first layer of c that is a T, which may be c. It reports
// false if there is none, or c is nil.
func Find[T any](c net.Conn) (layer T, ok bool) {
	for ; c != nil; c = Beneath(c) {
		if layer, ok = c.(T); ok {
			return layer, true
		}
	}
	return layer, false
}

// Bottom returns the last layer of c.
func Bottom(c net.Conn) net.Conn {
	for next := Beneath(c); next != nil; next = Beneath(c) {
		c = next
	}
	return c
}

// CloseWrite ends the sending direction of c, as a [net.TCPConn] can. It
// returns [errors.ErrUnsupported] if c cannot.
func CloseWrite(c net.Conn) error {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger sets what the Close of c does with bytes that have not left: with 0
// it discards them and the peer sees a reset, with -1 they still go out. A
// connection that knows no such thing stays as it is.
func SetLinger(c net.Conn, sec int) {
	if l, ok := Find[interface{ SetLinger(sec int) error }](c); ok {
		_ = l.SetLinger(sec) // a closed connection has nothing left to discard
	}
}

// Reset closes the bottom of c so that the peer sees an error rather than an
// end. Over TLS it also lacks the close_notify.
func Reset(c net.Conn) {
	SetLinger(c, 0)
	Bottom(c).Close()
}
