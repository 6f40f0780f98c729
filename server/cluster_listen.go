package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// hopSubprotocol is the websocket subprotocol between nodes. A later version that
	// does not understand this one has another name.
	hopSubprotocol = "websocktunnel-node.1"

	// newcomers is how many connections there may be that have not proved yet that a
	// node has made them.
	newcomers = 128

	newcomerTimeout = 5 * time.Second

	// linkFarewell is how long a node that ends waits for others to close their links
	// to it. They do so at once when they have the ends of its answers.
	linkFarewell = time.Second

	// nodeCheck is how often a node makes sure that it has a link to each other one.
	nodeCheck = 5 * time.Second
)

// ServeCluster takes part in the cluster of the Config, and serves the other nodes on ln,
// until Shutdown or Close; then it returns [ErrServerClosed]. It speaks TLS by itself: both
// ends prove that they know the cluster's secret. Viewers do not belong there.
func (s *Server) ServeCluster(ln net.Listener) error {
	n := s.cluster
	if n == nil {
		ln.Close()
		return errors.New("server: the Config has no Cluster")
	}
	defer ln.Close()
	if !n.spawn(func() { n.member.Run(n.ctx) }) || !n.spawn(n.keepLinks) {
		return ErrServerClosed
	}
	hs := &http.Server{
		Handler:           http.HandlerFunc(n.accept),
		ReadHeaderTimeout: newcomerTimeout,
		IdleTimeout:       newcomerTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          s.errorLog,
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	context.AfterFunc(n.ctx, func() { hs.Close() })
	err := hs.Serve(tls.NewListener(&newcomerListener{Listener: ln}, n.tls))
	if errors.Is(err, http.ErrServerClosed) {
		return ErrServerClosed
	}
	return err
}

// accept answers the handshake of a link. TLS has proved that a node sends it.
func (n *node) accept(w http.ResponseWriter, r *http.Request) {
	wanted := strings.Fields(r.Header.Get(wire.HeaderNode)) // a later version may add some
	if len(wanted) < 2 || wanted[0] != n.member.Name() || wanted[1] != n.member.Boot() {
		// An address has changed hands: what it was asked for is not here.
		w.WriteHeader(http.StatusMisdirectedRequest)
		return
	}
	conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: hopSubprotocol})
	if err != nil {
		return
	}
	if c, ok := r.Context().Value(connKey{}).(*tls.Conn); ok {
		if c, ok := c.NetConn().(*newcomer); ok {
			c.admit()
		}
	}
	defer n.coming.begin(r.Header.Get(wire.HeaderNodeFrom))()
	over := make(chan struct{})
	defer close(over)
	if !n.spawn(func() { <-over }) {
		conn.Abort()
		return
	}
	memory := n.srv.memory.Hold(nil, nil, 0)
	defer memory.Release()
	unread := &linkMemory{unreadData{of: memory, done: conn.Done()}}
	serve := func(w http.ResponseWriter, r *http.Request) { n.serveHop(w, r, conn, unread) }
	_ = h2conn.Serve(n.ctx, conn, http.HandlerFunc(serve), h2conn.ServeConfig{
		Config:               h2conn.Config{PingInterval: linkPing, PingTimeout: linkPong, MaxHeaderBytes: linkHeader},
		MaxConcurrentStreams: linkStreams + linkStreams/4, // the other end lets go of some before this one
		DrainTimeout:         linkFarewell,
		Memory:               unread.memory(),
		ErrorLog:             n.srv.errorLog,
	})
}

// keepLinks keeps a link to each other node, so that what is wrong between two nodes shows
// before a viewer's request needs it.
func (n *node) keepLinks() {
	ticks := time.NewTicker(nodeCheck)
	defer ticks.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-ticks.C:
		}
		others := n.member.Status().Nodes
		n.forgetPeers(others)
		for _, other := range others {
			if other.Name == n.member.Name() || other.Seen == cluster.NodeSuspect {
				continue
			}
			n.keepLink(other.Node)
		}
	}
}

// keepLink makes sure that there is a link to other.
func (n *node) keepLink(other cluster.Node) {
	n.spawn(func() {
		if l, err := n.peer(other).link(n.ctx, false); err == nil {
			l.release()
		}
	})
}

// forgetPeers gives up the links to all nodes but those.
func (n *node) forgetPeers(but []cluster.NodeStatus) {
	n.mu.Lock()
	var gone []*peer
	for name, p := range n.peers {
		if !slices.ContainsFunc(but, func(s cluster.NodeStatus) bool { return s.Name == name }) {
			delete(n.peers, name)
			gone = append(gone, p)
		}
	}
	n.mu.Unlock()
	for _, p := range gone {
		p.close(true)
	}
}

// newcomerListener keeps at most so many connections of which nobody knows yet whether
// a node has made them. For a new one the oldest has to go: a node proves itself in
// milliseconds, so that those who do not cannot keep it out by their number.
type newcomerListener struct {
	net.Listener

	mu  sync.Mutex
	all list.List // of *newcomer, the oldest first
}

type newcomer struct {
	netconn.Layer // shows the socket, so that the kernel is kept from holding much of a link's bytes

	from *newcomerListener
	at   *list.Element // guarded by from's mu; nil: it is none any more
}

func (l *newcomerListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &newcomer{Layer: netconn.Layer{Conn: netconn.Raw(nc)}, from: l}
	var oldest *newcomer
	l.mu.Lock()
	c.at = l.all.PushBack(c)
	if l.all.Len() > newcomers {
		oldest = l.all.Front().Value.(*newcomer)
		oldest.admitLocked()
	}
	l.mu.Unlock()
	if oldest != nil {
		oldest.Conn.Close()
	}
	return c, nil
}

// admit says that a node has made the connection, or that it is over.
func (c *newcomer) admit() {
	c.from.mu.Lock()
	defer c.from.mu.Unlock()
	c.admitLocked()
}

func (c *newcomer) admitLocked() {
	if c.at != nil {
		c.from.all.Remove(c.at)
		c.at = nil
	}
}

func (c *newcomer) Close() error {
	c.admit()
	return c.Conn.Close()
}
