package target

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// upgrade is a connection to the target that has switched protocols, and the
// one of the tunnel that it is joined to. If one breaks, the other has to break
// too: a proxy that just closes it would make a clean end of that, and of half a
// stream of bytes a whole one.
//
//	what happened             the target's connection   the tunnel's stream
//	both ends were clean      is closed                 is closed
//	the target's end broke    –                         is reset
//	the tunnel's end broke    is reset                  –
//	the request's context     is reset, unless the      –
//	ended                     tunnel had ended cleanly
//	the process was killed    is reset by the kernel    –
type upgrade struct {
	protocol string
	ctx      context.Context // of the request; ends when the stream in the tunnel breaks
	conn     net.Conn        // to the target; nil if not known
	target   targetEnd

	targetBroken, tunnelBroken atomic.Bool
	tunnelEnded                atomic.Bool // nothing more will come from the tunnel, properly
	fault                      atomic.Pointer[fault]

	fromViewer, toViewer atomic.Int64 // bytes
}

// newUpgrade makes one of body, that of a 101. It also makes the target's
// connection break if the process is killed: the kernel would end it cleanly.
func newUpgrade(ctx context.Context, protocol string, c net.Conn, body io.ReadWriteCloser) *upgrade {
	u := &upgrade{protocol: protocol, ctx: ctx, conn: c}
	u.target = targetEnd{body, u}
	netconn.SetLinger(c, 0)
	return u
}

// targetBroke and tunnelBroke note that an end is broken. The first fault counts.
func (u *upgrade) targetBroke(err error) {
	u.targetBroken.Store(true)
	hop := hopTarget
	if u.ctx.Err() != nil {
		hop = hopViewer // its leaving has closed the target's end
	}
	u.fault.CompareAndSwap(nil, &fault{hop, err})
}

func (u *upgrade) tunnelBroke(err error) {
	u.tunnelBroken.Store(true)
	u.fault.CompareAndSwap(nil, &fault{hopViewer, err})
}

// targetEnd is the body of the target's 101.
type targetEnd struct {
	io.ReadWriteCloser
	u *upgrade
}

func (e *targetEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.u.targetBroke(err)
	}
	return n, err
}

func (e *targetEnd) Write(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Write(p)
	if err != nil {
		e.u.targetBroke(err)
	}
	return n, err
}

func (e *targetEnd) CloseWrite() error {
	if c, ok := e.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (e *targetEnd) Close() error {
	if !e.u.tunnelBroken.Load() && (e.u.ctx.Err() == nil || e.u.tunnelEnded.Load()) {
		netconn.SetLinger(e.u.conn, -1)
	}
	return e.ReadWriteCloser.Close()
}

// tunnelEnd is the hijacked connection of the request. Nobody sets deadlines for its
// Read, so that a connection which has a reader without them is read by that.
type tunnelEnd struct {
	net.Conn
	u *upgrade
	r io.Reader
}

func newTunnelEnd(c net.Conn, u *upgrade) *tunnelEnd {
	e := &tunnelEnd{c, u, c}
	if d, ok := c.(interface{ DirectReader() io.Reader }); ok {
		e.r = d.DirectReader()
	}
	return e
}

func (e *tunnelEnd) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.u.fromViewer.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		e.u.tunnelEnded.Store(true)
	case err != nil:
		e.u.tunnelBroke(err)
	}
	return n, err
}

func (e *tunnelEnd) Write(p []byte) (int, error) {
	n, err := e.Conn.Write(p)
	e.u.toViewer.Add(int64(n))
	if err != nil {
		e.u.tunnelBroke(err)
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
