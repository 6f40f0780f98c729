package faultnet

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
)

// Listener is a listener in memory. Only its own DialContext reaches it.
type Listener struct {
	links

	conns chan *Conn // without a buffer
	once  sync.Once
	done  chan struct{}
}

var _ net.Listener = (*Listener)(nil)

// listenerAddr is one that documentation may use, as are those of diallers
// (RFC 5737).
const listenerAddr = Addr("192.0.2.1:80")

// Listen returns a new Listener.
func Listen(o Options) *Listener {
	return &Listener{links: links{opts: o}, conns: make(chan *Conn), done: make(chan struct{})}
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. Connections stay.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return listenerAddr }

// DialContext connects to l. It ignores network and addr. The connection is
// a *[Conn].
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	refused := &net.OpError{Op: "dial", Net: listenerAddr.Network(), Addr: listenerAddr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	link := l.add(nil, nil, nil)
	if link == nil {
		return nil, refused
	}
	dialled, accepted := pair(link, listenerAddr)
	select {
	case l.conns <- accepted:
		return dialled, nil
	case <-l.done:
		link.end()
		return nil, refused
	case <-ctx.Done():
		link.end()
		return nil, ctx.Err()
	}
}
