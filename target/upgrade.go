package target

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// upgrade is a connection to the target that has switched protocols, and the
// one of the tunnel that it is joined to. Where one breaks the other has to
// break too: a proxy that just closes it would make a clean end of that, and
// of half a stream of bytes a whole one.
type upgrade struct {
	ctx    context.Context // of the request; ends when the stream in the tunnel breaks
	target net.Conn        // below the target's end; nil if not known

	targetBroken, tunnelBroken atomic.Bool
	tunnelEnded                atomic.Bool // nothing more will come from the tunnel, properly
}

// targetEnd is the body of the target's 101.
type targetEnd struct {
	io.ReadWriteCloser
	u *upgrade
}

// newTargetEnd also makes the connection break should the process be killed:
// the kernel would end it cleanly.
func newTargetEnd(body io.ReadWriteCloser, u *upgrade) *targetEnd {
	netconn.SetLinger(u.target, 0)
	return &targetEnd{body, u}
}

func (e *targetEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.u.targetBroken.Store(true)
	}
	return n, err
}

func (e *targetEnd) Write(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Write(p)
	if err != nil {
		e.u.targetBroken.Store(true)
	}
	return n, err
}

func (e *targetEnd) CloseWrite() error {
	if cw, ok := e.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (e *targetEnd) Close() error {
	if !e.u.tunnelBroken.Load() && (e.u.ctx.Err() == nil || e.u.tunnelEnded.Load()) {
		netconn.SetLinger(e.u.target, -1)
	}
	return e.ReadWriteCloser.Close()
}

// tunnelEnd is the hijacked connection of the request.
type tunnelEnd struct {
	net.Conn
	u *upgrade
}

func (e *tunnelEnd) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		e.u.tunnelEnded.Store(true)
	case err != nil:
		e.u.tunnelBroken.Store(true)
	}
	return n, err
}

func (e *tunnelEnd) Write(p []byte) (int, error) {
	n, err := e.Conn.Write(p)
	if err != nil {
		e.u.tunnelBroken.Store(true)
	}
	return n, err
}

func (e *tunnelEnd) CloseWrite() error { return netconn.CloseWrite(e.Conn) }

func (e *tunnelEnd) Close() error {
	if e.u.targetBroken.Load() {
		netconn.SetLinger(e.Conn, 0)
	}
	return e.Conn.Close()
}

// upgradeOf returns the upgrade of a request whose answer is a 101.
func (w *unaltered) upgradeOf(r *http.Request) *upgrade {
	u := &upgrade{ctx: r.Context()}
	if c := w.targetConn.Load(); c != nil {
		u.target = *c
	}
	return u
}
