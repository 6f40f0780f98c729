package server

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A carrier takes requests into a tunnel: a session, or the way to another node that
// has one.
type carrier interface {
	// begin admits one request of from. If it returns nil, end has to follow. The error
	// is errRetired if the carrier takes no requests any more: another may.
	begin(ctx context.Context, from netip.Addr) error
	end()

	// lost says that the carrier takes no requests any more. code is for the tunnel
	// client; 0 says that its connection has broken.
	lost(code wire.CloseCode)
	ownCode() wire.CloseCode

	// transport sends the request. It is known when begin has returned.
	transport() *h2conn.Transport

	// counter counts the bytes of bodies.
	counter() *traffic

	// slowDown says that the other end has broken a limit.
	slowDown()

	// limits returns the stall timeout and the response header timeout of l, as far as
	// they are to be kept here. Zero is none.
	limits(l *live) (stall, head time.Duration)
}

func (s *session) transport() *h2conn.Transport { return s.tr }
func (s *session) counter() *traffic            { return &s.traffic }
func (s *session) slowDown()                    { s.turn.slowDown() }

func (s *session) limits(l *live) (stall, head time.Duration) {
	return l.StallTimeout, l.ResponseHeaderTimeout
}

var _ carrier = (*session)(nil)

// carrier returns the carrier to send the request by: the tunnel's session, if it is
// on this node.
func (x *exchange) carrier(ctx context.Context) (carrier, error) {
	sess, way, err := x.find(ctx)
	switch {
	case err != nil:
		return nil, err
	case sess != nil:
		return sess, nil
	case way != nil:
		return way, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case x.srv.isDraining():
		return nil, errDraining
	}
	return nil, ErrNoTunnel
}

// isAway reports whether err says that no session can take the request now.
func isAway(err error) bool {
	return errors.Is(err, ErrNoTunnel) || errors.Is(err, errBusy) || errors.Is(err, errNotReplaced)
}
