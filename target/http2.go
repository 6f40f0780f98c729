package target

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

const (
	// settingsTimeout is how long the first request of a connection waits for the
	// target's SETTINGS, which say how many requests it takes at a time.
	settingsTimeout = time.Second

	// deadTimeout is after what time without an acknowledgement a connection over
	// which HTTP/2 goes counts as dead. The target's program may be stopped for as
	// long as it likes: its system acknowledges.
	deadTimeout = 30 * time.Second
)

// http2Conns are the connections to a target over which HTTP/2 goes. net/http's
// Transport has such a pool too, but sends what the target has refused again and
// again, without a bound, and does not say why it was refused. Here a request fails
// with what became of it, and the exchange decides.
type http2Conns struct {
	dial func(context.Context) (net.Conn, error) // errSpeaksHTTP1 if the target has chosen that
	only bool                                    // the target speaks nothing else

	// spoken says that the target has chosen HTTP/2 the last time.
	spoken atomic.Bool

	mu      sync.Mutex
	conns   []*http2Conn
	opening *http2Opening // nil if no connection is being made
}

// http2Opening is a connection that is being made for the one request that has
// begun it. Others wait for done.
type http2Opening struct {
	done chan struct{}
	err  error // set before done is closed
}

// Of a target that may choose its protocol, a connection may turn out to have the
// other one than the request has looked for.
var (
	errSpeaksHTTP1 = errors.New("the target has chosen HTTP/1.1")
	errSpeaksHTTP2 = errors.New("the target has chosen HTTP/2")
)

// errAnsweredHTTP1 is about a target that was asked in HTTP/2.
var errAnsweredHTTP1 = errors.New("the target answered in HTTP/1.1")

// expected reports whether to look here for a connection first.
func (p *http2Conns) expected() bool { return p != nil && (p.only || p.spoken.Load()) }

// RoundTrip sends r once. It returns errSpeaksHTTP1 if the target turns out to
// speak that.
func (p *http2Conns) RoundTrip(r *http.Request) (*http.Response, error) {
	c, err := p.get(r.Context())
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.conn.Conn})
	}
	resp, err := c.cc.RoundTrip(r)
	if err != nil && c.conn.http1.Load() {
		err = fmt.Errorf("%w: %w", errAnsweredHTTP1, err)
	}
	return resp, err
}

// get returns a connection that has a place for one request.
func (p *http2Conns) get(ctx context.Context) (*http2Conn, error) {
	for {
		p.mu.Lock()
		if c := p.reserveLocked(); c != nil {
			p.mu.Unlock()
			return c, nil
		}
		o := p.opening
		if o == nil {
			o = &http2Opening{done: make(chan struct{})}
			p.opening = o
			p.mu.Unlock()
			return p.open(ctx, o)
		}
		p.mu.Unlock()
		select {
		case <-o.done:
			if o.err != nil {
				return nil, o.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reserveLocked takes a place on one of the connections, or returns nil. It also
// forgets those that have ended.
func (p *http2Conns) reserveLocked() *http2Conn {
	p.conns = slices.DeleteFunc(p.conns, func(c *http2Conn) bool { return c.cc.Err() != nil })
	for _, c := range p.conns {
		if c.cc.Reserve() == nil {
			return c
		}
	}
	return nil
}

// open makes a connection, with a place for its caller.
func (p *http2Conns) open(ctx context.Context, o *http2Opening) (c *http2Conn, err error) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.opening = nil
		if err == nil {
			p.conns = append(p.conns, c)
		}
		if ctx.Err() == nil { // otherwise it is no other request's error
			o.err = err
		}
		close(o.done)
	}()
	conn, err := p.dial(ctx)
	if err != nil {
		if errors.Is(err, errSpeaksHTTP1) {
			p.spoken.Store(false)
		}
		return nil, err
	}
	if c, err = newHTTP2Conn(ctx, conn); err != nil {
		return nil, err
	}
	// If the target has closed it already, the request finds out why.
	_ = c.cc.Reserve()
	return c, nil
}

// add takes over conn, which was meant for HTTP/1.1 until the target has chosen.
func (p *http2Conns) add(ctx context.Context, conn net.Conn) {
	c, err := newHTTP2Conn(ctx, conn)
	if err != nil {
		return
	}
	p.mu.Lock()
	surplus := slices.ContainsFunc(p.conns, func(c *http2Conn) bool { return c.cc.Available() > 0 })
	if !surplus {
		p.conns = append(p.conns, c)
	}
	p.spoken.Store(true)
	p.mu.Unlock()
	if surplus {
		c.cc.Close()
	}
}

// closeIdle closes the connections without a request.
func (p *http2Conns) closeIdle() {
	p.mu.Lock()
	var idle []*http2Conn
	p.conns = slices.DeleteFunc(p.conns, func(c *http2Conn) bool {
		if c.cc.InFlight() > 0 {
			return false
		}
		idle = append(idle, c)
		return true
	})
	p.mu.Unlock()
	for _, c := range idle {
		c.cc.Close()
	}
}

// http2Conn is one connection. net/http takes it for one in cleartext: TLS is
// beneath.
type http2Conn struct {
	cc   *http.ClientConn
	conn *settingsConn
}

// newHTTP2Conn starts HTTP/2 on conn, which it owns, and waits a moment for the
// target's SETTINGS: more requests than these admit would be refused, or wait for
// one another.
func newHTTP2Conn(ctx context.Context, conn net.Conn) (*http2Conn, error) {
	limitUnacknowledged(conn)
	sc := &settingsConn{Layer: netconn.Layer{Conn: conn}, begun: make(chan struct{})}
	tr := newTransport(http2Only, func(context.Context) (net.Conn, error) { return sc, nil })
	cc, err := tr.NewClientConn(ctx, "http", "target:80")
	if err != nil {
		conn.Close()
		return nil, err
	}
	t := time.NewTimer(settingsTimeout)
	defer t.Stop()
	select {
	case <-sc.begun:
	case <-ctx.Done():
	case <-t.C:
	}
	return &http2Conn{cc, sc}, nil
}

// settingsConn tells when net/http has seen what the target has sent first, which
// is its SETTINGS: it then reads for a second time.
type settingsConn struct {
	netconn.Layer
	reads atomic.Int32
	once  sync.Once
	begun chan struct{}
	http1 atomic.Bool // what came first was no SETTINGS
}

func (c *settingsConn) Read(p []byte) (int, error) {
	if c.reads.Load() < 2 && c.reads.Add(1) == 2 {
		c.once.Do(func() { close(c.begun) })
	}
	n, err := c.Conn.Read(p)
	if c.reads.Load() == 1 && bytes.HasPrefix(p[:n], []byte("HTTP/1.")) {
		c.http1.Store(true)
	}
	return n, err
}

func (c *settingsConn) Close() error {
	c.once.Do(func() { close(c.begun) })
	return c.Conn.Close()
}
