package reliability

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

var secret = []byte("a secret of at least thirty-two bytes")

// quick are the limits of liveness that let many faults fit into a minute:
// what is silent for a second is pinged, and given up another second later.
var quick = h2conn.Config{PingInterval: time.Second, PingTimeout: time.Second, WriteTimeout: time.Second}

// detection is how long it takes either end at most to notice, with quick,
// that the other is gone.
const detection = 2 * time.Second

// dialFunc is that of an http.Transport.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// service is a Server with a listener for tunnel clients and one for viewers.
type service struct {
	t       *testing.T
	srv     *server.Server
	tunnels *recordingListener
	done    chan error // of each Serve

	dialTunnel, dialViewer dialFunc

	// relay, if not nil, is what real tunnel clients come through.
	relay *faultnet.Relay
}

// newMemoryService returns a service on two networks in memory.
func newMemoryService(t *testing.T, cfg server.Config, o faultnet.Options) (s *service, tunnels, viewers *faultnet.Listener) {
	t.Helper()
	tunnels, viewers = faultnet.Listen(o), faultnet.Listen(o)
	s = newService(t, cfg, tunnels, viewers)
	s.dialTunnel, s.dialViewer = tunnels.DialContext, viewers.DialContext
	return s, tunnels, viewers
}

// newTCPService returns a service on real sockets.
func newTCPService(t *testing.T, cfg server.Config) *service {
	t.Helper()
	var lns [2]net.Listener
	for i := range lns {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		lns[i] = ln
	}
	s := newService(t, cfg, lns[0], lns[1])
	s.dialTunnel, s.dialViewer = dialTo(lns[0].Addr().String()), dialTo(lns[1].Addr().String())
	return s
}

func dialTo(addr string) dialFunc {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
}

// relayTunnels makes the tunnel clients of a service on real sockets come
// through a relay from now on.
func (s *service) relayTunnels(o faultnet.Options) {
	s.t.Helper()
	r, err := faultnet.NewRelay(s.tunnels.Addr().String(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	s.relay, s.dialTunnel = r, dialTo(r.Addr())
}

func newService(t *testing.T, cfg server.Config, tunnels, viewers net.Listener) *service {
	t.Helper()
	cfg.PublicURL = "http://tunnel.test"
	cfg.Secrets = [][]byte{secret}
	// Viewers tell addresses of their own, so that limits of addresses do not
	// meet them.
	cfg.TrustedProxies = []string{"198.51.100.0/24", "127.0.0.1"}
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{
		t: t, srv: srv, done: make(chan error, 2),
		tunnels: &recordingListener{Listener: tunnels, conns: make(map[string]net.Conn)},
	}
	for _, ln := range []net.Listener{s.tunnels, viewers} {
		go func() { s.done <- srv.Serve(ln) }()
	}
	t.Cleanup(s.close)
	return s
}

func (s *service) close() {
	s.srv.Close()
	for range cap(s.done) {
		if err := <-s.done; !errors.Is(err, server.ErrServerClosed) {
			s.t.Errorf("Serve returned %v", err)
		}
	}
	for range cap(s.done) { // close may be called again
		s.done <- server.ErrServerClosed
	}
}

// tunnel returns what the service says of a tunnel.
func (s *service) tunnel(id string) (server.TunnelInfo, bool) {
	for info := range s.srv.Tunnels() {
		if info.ID == id {
			return info, true
		}
	}
	return server.TunnelInfo{}, false
}

// await waits until the tunnel takes requests: shortly after its client thinks
// that it is connected.
func (s *service) await(id string) (info server.TunnelInfo) {
	s.t.Helper()
	if !waitFor(10*time.Second, func() (ok bool) { info, ok = s.tunnel(id); return ok }) {
		s.t.Fatalf("no tunnel %s", id)
	}
	return info
}

// count returns how many tunnels there are.
func (s *service) count() (n int) {
	for range s.srv.Tunnels() {
		n++
	}
	return n
}

// inFlight returns how many requests all tunnels carry.
func (s *service) inFlight() (n int) {
	for info := range s.srv.Tunnels() {
		n += info.InFlight
	}
	return n
}

// recordingListener remembers its connections by their remote address.
type recordingListener struct {
	net.Listener
	mu    sync.Mutex
	conns map[string]net.Conn
}

func (l *recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c.RemoteAddr().String()] = c
	return &recordedConn{Conn: c, ln: l}, nil
}

// closeConn closes the service's end of a connection.
func (l *recordingListener) closeConn(remote string) {
	l.mu.Lock()
	c := l.conns[remote]
	l.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

type recordedConn struct {
	net.Conn
	ln *recordingListener
}

func (c *recordedConn) Close() error {
	c.ln.mu.Lock()
	delete(c.ln.conns, c.RemoteAddr().String())
	c.ln.mu.Unlock()
	return c.Conn.Close()
}

// client is a running tunnel client.
type client struct {
	service   *service
	conn      atomic.Value  // net.Conn, the last one
	connected chan struct{} // capacity 1: it has connected
	lost      chan struct{} // capacity 1: it has noticed that a session is over
	up        atomic.Bool   // it has a session, as far as it knows
	replaced  chan struct{} // closed after a session has ended with 4000
	cancel    context.CancelFunc
	done      chan struct{}
}

// errNotConnected is what connect returns if it takes too long.
var errNotConnected = errors.New("the tunnel client does not connect")

// connect starts a tunnel client and waits until it is connected.
func (s *service) connect(id string, h http.Handler, cfg tunnelclient.Config, bound time.Duration) (*client, error) {
	c := s.start(id, h, cfg)
	select {
	case <-c.connected:
		return c, nil
	case <-time.After(bound):
		c.stop()
		return nil, errNotConnected
	}
}

// start starts a tunnel client.
func (s *service) start(id string, h http.Handler, cfg tunnelclient.Config) *client {
	token, err := server.MintToken(secret, server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		panic(err) // of these tests
	}
	c := &client{service: s, connected: make(chan struct{}, 1), lost: make(chan struct{}, 1), replaced: make(chan struct{}), done: make(chan struct{})}
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := s.dialTunnel(ctx, network, addr)
			if err == nil {
				c.conn.Store(conn)
			}
			return conn, err
		},
	}
	cfg.ServerURL, cfg.ID, cfg.Tokens = "http://localhost", id, tunnelclient.StaticToken(token)
	cfg.HTTPClient = &http.Client{Transport: tr}
	cfg.Logger = zerolog.Nop()
	once := false
	cfg.OnStateChange = func(st tunnelclient.State) {
		var ce *h2conn.CloseError
		if errors.As(st.Err, &ce) && ce.Code == 4000 && !once {
			once = true
			close(c.replaced)
		}
		switch {
		case st.Phase == tunnelclient.PhaseConnected && st.Err == nil:
			c.up.Store(true)
			notify(c.connected)
		case st.Phase == tunnelclient.PhaseWaiting:
			c.up.Store(false)
			notify(c.lost)
		}
	}
	tc, err := tunnelclient.New(cfg)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	s.t.Cleanup(c.stop)
	go func() {
		defer close(c.done)
		if err := tc.Serve(ctx, h); err != nil {
			s.t.Errorf("tunnel client %s: Serve returned %v", id, err)
		}
	}()
	return c
}

func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// forget takes back notifications.
func forget(chans ...chan struct{}) {
	for _, ch := range chans {
		select {
		case <-ch:
		default:
		}
	}
}

// stop ends the client in good order.
func (c *client) stop() {
	c.cancel()
	<-c.done
}

// kill ends the client as if its machine were switched off.
func (c *client) kill() {
	c.link().Reset()
	c.stop()
}

// link returns the link of the client's last connection. If there is none any
// more, that is one that leads nowhere.
func (c *client) link() *faultnet.Link {
	switch conn := c.conn.Load().(type) {
	case *faultnet.Conn:
		return conn.Link()
	case *net.TCPConn:
		for _, l := range c.service.relay.Links() {
			if l.From.String() == conn.LocalAddr().String() {
				return l
			}
		}
	}
	return nowhere()
}

// nowhere returns a link on which faults do no harm.
func nowhere() *faultnet.Link {
	c, _ := faultnet.Pair(faultnet.Options{})
	return c.Link()
}
