package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// ClusterConfig makes a [Server] one of several nodes behind one name: each serves
// any viewer, whichever of them a tunnel client is connected to. See docs/cluster.md.
// The node takes part from [Server.ServeCluster] on.
type ClusterConfig struct {
	// Directory is where the nodes tell each other which of them serves which id.
	// Required. The Server does not close it.
	Directory cluster.Directory

	// Node is this node's name, which no other one has: 1 to 63 letters, digits, dots,
	// hyphens and underscores. Required.
	Node string

	// Addr is where the other nodes reach the listener of ServeCluster: host:port.
	// Required.
	Addr string

	// Secrets are what all nodes share, and nobody else: one or, during a rotation,
	// two, of at least 16 bytes. The first one signs. Required.
	Secrets [][]byte

	// Admin, if not nil, answers what operators ask of this node at another one, by
	// [Server.NodeTransport]. They have been let in there.
	Admin http.Handler
}

// ClusterPing is the default of PingInterval and of PingTimeout in the [Config] of a node,
// and of the tunnel clients that are connected to it: the loss of a node is to cost
// seconds.
const ClusterPing = 5 * time.Second

var nodeName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,63}$`)

// check notes the faults of c, and returns the keys.
func (c *ClusterConfig) check(faults *configerror.Faults) *cluster.Keys {
	if c == nil {
		return nil
	}
	if c.Directory == nil {
		faults.Add("Cluster.Directory", "", "is missing: make one, such as of package redisdir")
	}
	if !nodeName.MatchString(c.Node) {
		faults.Add("Cluster.Node", c.Node, "must be 1 to 63 letters, digits, dots, hyphens and underscores")
	}
	if host, port, err := net.SplitHostPort(c.Addr); err != nil || host == "" || port == "" || port == "0" {
		faults.Add("Cluster.Addr", c.Addr, "must be host:port, where other nodes reach this one")
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		faults.Add("Cluster.Addr", c.Addr, "is no address that other nodes can reach: name one of this machine's")
	}
	if n := len(c.Secrets); n == 0 || n > 2 {
		faults.Add("Cluster.Secrets", "", fmt.Sprintf("has %d entries: one or two secrets are required", n))
		return nil
	}
	for i, s := range c.Secrets {
		if len(s) < cluster.MinSecret {
			faults.Add(fmt.Sprintf("Cluster.Secrets[%d]", i), "", fmt.Sprintf("has %d bytes: at least %d are required", len(s), cluster.MinSecret))
			return nil
		}
	}
	keys, err := cluster.NewKeys(c.Secrets...)
	if err != nil {
		faults.Add("Cluster.Secrets", "", err.Error())
	}
	return keys
}

// node is a Server as one of several. The nil node is that of one alone.
type node struct {
	srv    *Server
	member *cluster.Member
	tls    *tls.Config
	stop   context.CancelFunc // ends what ServeCluster has begun
	ctx    context.Context    //nolint:containedctx // it is the node's life
	done   sync.WaitGroup     // what ServeCluster has begun
	joined chan struct{}      // closed when the directory has had this node, and the node the others
	join   func()             // closes it
	coming coming

	mu     sync.Mutex
	closed bool
	peers  map[string]*peer // by name
	hops   int              // requests on their way to other nodes
	quiet  chan struct{}    // non-nil while somebody waits for there to be none
}

// joinCluster returns the node of s, which has checked its Config.
func joinCluster(s *Server, keys *cluster.Keys) *node {
	cfg := s.cfg.Cluster
	if cfg == nil {
		return nil
	}
	n := &node{srv: s, tls: keys.TLS(), peers: make(map[string]*peer)}
	n.ctx, n.stop = context.WithCancel(context.Background())
	n.joined = make(chan struct{})
	n.join = sync.OnceFunc(func() { close(n.joined) })
	n.member = cluster.NewMember(cluster.MemberConfig{
		Directory: cfg.Directory, Name: cfg.Node, Addr: cfg.Addr, Version: s.cfg.Version.Version, Keys: keys,
		Superseded: func(id string) { s.registry.superseded(label(id)) },
		Changed: func(id string) {
			s.registry.stir(label(id))
			n.moved(label(id))
		},
		NodeChanged: n.nodeChanged,
		Trouble:     n.trouble,
	})
	s.registry.cluster = n.member
	return n
}

func (n *node) trouble(err error) {
	if err == nil {
		n.srv.log.Info().Str(logevent.Field, logevent.DirectoryBack).Msg("the directory of the cluster answers again")
		return
	}
	n.srv.log.Warn().Str(logevent.Field, logevent.DirectoryAway).Err(err).Msg("the directory of the cluster does not answer: tunnels of this node are not concerned")
}

func (n *node) nodeChanged(other cluster.Node, state cluster.NodeState) {
	if other.Name == n.member.Name() {
		n.join()
		if other.Boot != n.member.Boot() && state == cluster.NodeUp {
			n.srv.log.Error().Str(logevent.Field, logevent.NodeTwice).Str("other", other.Name).Str("addr", other.Addr).Msg("another process has this node's name: each node needs its own")
		}
		return
	}
	n.srv.log.Info().Str(logevent.Field, logevent.NodeChanged).Str("other", other.Name).Str("addr", other.Addr).Str("state", string(state)).Msg("node of the cluster")
	if state == cluster.NodeUp {
		n.keepLink(other) // before a viewer needs it
	}
}

// find returns the way to the node that has x's tunnel, or nil if there is none.
func (n *node) find(ctx context.Context, x *exchange) (*nodeHop, error) {
	if n == nil {
		return nil, nil
	}
	h, err := n.member.Find(ctx, string(x.tunnel))
	switch {
	case err == nil && x.avoid.is(h) && x.avoid.away:
		if n.peer(h.Node).isBack(h.Suspect) {
			return &nodeHop{node: n, holder: h, tunnel: x.tunnel}, nil
		}
		return nil, errNodeAway
	case err == nil && x.avoid.is(h):
		if !n.member.Status().Whole {
			return nil, cluster.ErrUnknown
		}
		return nil, nil
	case err == nil:
		return &nodeHop{node: n, holder: h, tunnel: x.tunnel}, nil
	case errors.Is(err, cluster.ErrAbsent):
		return nil, nil
	case x.avoid.away:
		return nil, errNodeAway // that is all that is known
	}
	return nil, err
}

// misled says that another node has taken this one for that of l.
func (n *node) misled(l label) {
	if n != nil {
		n.member.Misled(string(l))
	}
}

// begin counts a request to another node, and end takes it back.
func (n *node) begin() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hops++
}

func (n *node) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hops--; n.hops == 0 && n.quiet != nil {
		close(n.quiet)
		n.quiet = nil
	}
}

// drain says that this node takes no new sessions.
func (n *node) drain() {
	if n != nil {
		n.member.Drain()
	}
}

// settle waits until no request is on its way to another node, or ctx ends.
func (n *node) settle(ctx context.Context) {
	if n == nil {
		return
	}
	n.mu.Lock()
	if n.hops == 0 {
		n.mu.Unlock()
		return
	}
	if n.quiet == nil {
		n.quiet = make(chan struct{})
	}
	quiet := n.quiet
	n.mu.Unlock()
	select {
	case <-quiet:
	case <-ctx.Done():
	}
}

// spawn runs f in a goroutine that close waits for. It reports false, and does nothing,
// after that.
func (n *node) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.closed {
		n.done.Go(f)
	}
	return !n.closed
}

// close leaves the cluster.
func (n *node) close() {
	if n == nil {
		return
	}
	n.stop()
	n.mu.Lock()
	n.closed = true
	peers := n.peers
	n.peers = make(map[string]*peer)
	n.mu.Unlock()
	for _, p := range peers {
		p.close(false)
	}
	n.done.Wait()
}

// superseded takes l's session out of service since a newer one is on another node.
// What it has in flight may finish.
func (g *registry) superseded(l label) {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[l]
	if tun == nil {
		return
	}
	if g.cluster.Holds(string(l)) {
		return // it has registered here again meanwhile
	}
	defer g.tidyLocked(tun)
	tun.owed = nil
	if tun.active != nil {
		tun.replacements++
		tun.replaced = tun.active.remote
		tun.moveLocked(tun.active, stateDraining, wire.CloseReplaced, "")
	}
}

// stir wakes those that wait for a session of l: another node may have one.
func (g *registry) stir(l label) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if tun := g.tunnels[l]; tun != nil {
		tun.wakeLocked()
	}
}

// originOf returns what a registration with header h says about itself. What breaks the
// rule counts as nothing said.
func originOf(h http.Header) cluster.Origin {
	instance, attempt := h[wire.HeaderInstance], h[wire.HeaderAttempt]
	if len(instance) != 1 || len(attempt) != 1 || !instanceName.MatchString(instance[0]) {
		return cluster.Origin{}
	}
	n, err := strconv.ParseUint(attempt[0], 10, 53)
	if err != nil {
		return cluster.Origin{}
	}
	return cluster.Origin{Instance: instance[0], Attempt: n}
}

var instanceName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// Cluster returns what this node knows of its cluster. It reports false if the service is
// alone.
func (s *Server) Cluster() (cluster.Status, bool) {
	if s.cluster == nil {
		return cluster.Status{}, false
	}
	return s.cluster.member.Status(), true
}
