package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// linkStreams is how many requests a link carries at a time. Its windows hold as
	// many that nobody reads, and one more.
	linkStreams = 200

	// maxLinks is how many links there are to one node.
	maxLinks = 64

	// A dead node is to cost little: those who look for a tunnel there wait for this
	// long, and less if it has not said for a while that it is alive.
	linkTimeout    = 2 * time.Second
	suspectTimeout = 500 * time.Millisecond

	// linkPing is how often a silent link is tried, and linkPong how long the answer
	// may take.
	linkPing = 5 * time.Second
	linkPong = 5 * time.Second

	// linkIdle is how long a link lives without a request. One stays.
	linkIdle = time.Minute

	// linkHeader is the largest header list that nodes send each other.
	linkHeader = 512 << 10
)

// peer is another node, with the links to it.
type peer struct {
	node     *node
	of       cluster.Node
	traffic  traffic
	requests atomic.Uint64 // of viewers, that have gone there
	ping     atomic.Int64  // time that it took to answer the last one

	mu     sync.Mutex
	closed bool
	links  []*link
	dial   *dial // under way, or failed a moment ago

	// What p is to be told of: see tell.
	coming  []label
	next    chan struct{} // closed when p has been told of that; nil if there is nothing
	telling bool
}

// link is one connection to a peer.
type link struct {
	peer   *peer
	conn   *h2conn.Conn
	tr     *h2conn.Transport
	memory *linkMemory

	mu       sync.Mutex
	attempts map[uint32]*attempt // by stream

	// Guarded by the peer's mu.
	inFlight int
	idle     time.Time // since when, if inFlight is 0
}

// dial is the making of a link, for all who wait for one.
type dial struct {
	done  chan struct{}
	err   error     // set before done is closed
	until time.Time // how long a failure counts
}

// peer returns the peer of, another node.
func (n *node) peer(of cluster.Node) *peer {
	n.mu.Lock()
	p := n.peers[of.Name]
	if p != nil && p.of.Boot == of.Boot && p.of.Addr == of.Addr {
		n.mu.Unlock()
		return p
	}
	before := p
	p = &peer{node: n, of: of, traffic: traffic{all: &n.srv.traffic}}
	n.peers[of.Name] = p
	n.mu.Unlock()
	if before != nil {
		before.close(true)
	}
	return p
}

// link returns a link with room for one request more, which it counts.
func (p *peer) link(ctx context.Context, suspect bool) (*link, error) {
	for {
		p.mu.Lock()
		p.tidyLocked()
		if p.closed {
			p.mu.Unlock()
			return nil, errNodeAway
		}
		for _, l := range p.links {
			if l.inFlight < linkStreams && l.tr.Usable() {
				l.inFlight++
				p.mu.Unlock()
				return l, nil
			}
		}
		if len(p.links) >= maxLinks {
			p.mu.Unlock()
			return nil, errBusy
		}
		d := p.dialLocked(suspect)
		p.mu.Unlock()
		if d == nil {
			return nil, errNodeAway
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if d.err != nil {
			return nil, d.err
		}
	}
}

// dialLocked returns the making of a link, which it begins unless that is under way or has
// failed a moment ago; or nil if this node is at its end.
func (p *peer) dialLocked(suspect bool) *dial {
	if d := p.dial; d != nil && (d.until.IsZero() || !time.Now().After(d.until)) {
		return d
	}
	d := &dial{done: make(chan struct{})}
	p.dial = d
	limit := linkTimeout
	if suspect {
		limit = suspectTimeout
	}
	if !p.node.spawn(func() { p.connect(d, limit) }) {
		p.dial = nil
		return nil
	}
	return d
}

// isBack reports whether there is a link to the node again, and has one made otherwise,
// without waiting for it.
func (p *peer) isBack(suspect bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tidyLocked()
	if p.closed || len(p.links) > 0 {
		return len(p.links) > 0
	}
	p.dialLocked(suspect)
	return false
}

func (l *link) release() {
	p := l.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	l.inFlight--
	l.idle = time.Now()
	p.tidyLocked()
}

// mind takes l out of use as soon as the other node wants no more requests on it.
func (l *link) mind() {
	select {
	case <-l.tr.GoneAway():
		l.peer.drop(l)
	case <-l.tr.Done():
	case <-l.peer.node.ctx.Done():
	}
}

// drop takes l out of use. Requests that it carries go on.
func (p *peer) drop(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.links, l); i >= 0 {
		p.links = slices.Delete(p.links, i, i+1)
		go l.finish()
	}
}

// finish closes l when its requests are over, or have had their time.
func (l *link) finish() {
	ctx, cancel := context.WithTimeout(l.peer.node.ctx, l.peer.node.srv.live.Load().DrainTimeout)
	defer cancel()
	_ = l.tr.Shutdown(ctx)
	_ = l.tr.Close()
}

// tidyLocked takes links out that are dead or not needed.
func (p *peer) tidyLocked() {
	p.links = slices.DeleteFunc(p.links, func(l *link) bool {
		select {
		case <-l.tr.Done():
			return true
		default:
		}
		if l.inFlight == 0 && (len(p.links) > 1 && time.Since(l.idle) > linkIdle || !l.tr.Usable()) {
			go l.finish()
			return true
		}
		return false
	})
}

// close ends the use of p. Requests that it carries go on if they may, and fail
// otherwise.
func (p *peer) close(finish bool) {
	p.mu.Lock()
	p.closed = true
	links := p.links
	p.links = nil
	p.mu.Unlock()
	for _, l := range links {
		if finish {
			go l.finish()
		} else {
			_ = l.tr.Close()
		}
	}
}

// connect makes a link.
func (p *peer) connect(d *dial, limit time.Duration) {
	ctx, cancel := context.WithTimeout(p.node.ctx, limit)
	defer cancel()
	l, err := p.open(ctx)
	if err == nil {
		defer func() {
			if d.err != nil {
				_ = l.tr.Close()
			}
		}()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dial = nil
	switch {
	case err != nil:
		d.err = fmt.Errorf("%w: %s at %s: %w", errNodeAway, p.of.Name, p.of.Addr, err)
		d.until = time.Now().Add(suspectTimeout)
		p.dial = d
	case p.closed:
		d.err = errNodeAway
	default:
		l.idle = time.Now()
		p.links = append(p.links, l)
		p.node.spawn(l.mind)
		if len(p.links) == 1 { // it may have missed something
			p.node.spawn(func() { p.node.shareWith(p) })
		}
	}
	close(d.done)
}

// open makes a connection to the node and starts HTTP/2 on it.
func (p *peer) open(ctx context.Context) (*link, error) {
	n := p.node
	web := &http.Transport{
		TLSClientConfig:   n.tls.Clone(),
		DialContext:       netconn.RawDialer(new(net.Dialer)),
		DisableKeepAlives: true,
	}
	defer web.CloseIdleConnections()
	conn, resp, err := h2conn.Dial(ctx, "https://"+p.of.Addr+"/", h2conn.DialOptions{
		HTTPClient:  &http.Client{Transport: web},
		Subprotocol: hopSubprotocol,
		Header: http.Header{
			wire.HeaderNode:     {p.of.Name + " " + p.of.Boot},
			wire.HeaderNodeFrom: {n.member.Name() + " " + n.member.Boot() + " " + tellsComing},
		},
	})
	if err != nil {
		if resp != nil && resp.StatusCode == http.StatusMisdirectedRequest {
			return nil, errors.New("another process has its address")
		}
		return nil, err
	}
	memory := n.srv.memory.Hold(nil, nil, 0)
	l := &link{peer: p, conn: conn, memory: &linkMemory{unreadData{of: memory, done: conn.Done()}}}
	conn.OnControl(l.onControl)
	l.tr, err = h2conn.NewTransport(conn, h2conn.TransportConfig{
		Config: h2conn.Config{
			PingInterval: linkPing, PingTimeout: linkPong, MaxHeaderBytes: linkHeader,
			StreamWindow: n.srv.live.Load().StreamWindow, ConnWindow: linkWindow,
		},
		Memory:       l.memory.memory(),
		PingAnswered: func(d time.Duration) { p.ping.Store(int64(d)) },
	})
	if err == nil {
		err = l.tr.Ping(ctx)
	}
	if err != nil {
		memory.Release()
		conn.Abort()
		return nil, err
	}
	go func() {
		<-conn.Done()
		memory.Release()
	}()
	return l, nil
}
