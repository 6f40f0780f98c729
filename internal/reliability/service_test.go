package reliability

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// quick are the limits of liveness that let many faults fit into a minute:
// what is silent for a second is pinged, and given up another second later.
var quick = server.Config{PingInterval: time.Second, PingTimeout: time.Second, WriteTimeout: time.Second}

// detection is how long it takes either end at most to notice, with quick,
// that the other is gone.
const detection = 2 * time.Second

// dialFunc is that of an http.Transport.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// service is a service with a listener for tunnel clients and one for viewers.
type service struct {
	*tunneltest.Service
	t *testing.T

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
	tunnels, viewers := tunneltest.Listen(t), tunneltest.Listen(t)
	s := newService(t, cfg, tunnels, viewers)
	s.dialTunnel, s.dialViewer = dialTo(s.Addr), dialTo(viewers.Addr().String())
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
	r, err := faultnet.NewRelay(s.Addr, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Close() })
	s.relay, s.dialTunnel = r, dialTo(r.Addr())
}

func newService(t *testing.T, cfg server.Config, tunnels, viewers net.Listener) *service {
	t.Helper()
	cfg.PublicURL = "http://tunnel.test"
	cfg.Logger = zerolog.Nop()
	// Viewers tell addresses of their own, so that limits of addresses do not
	// meet them.
	cfg.TrustedProxies = []string{"198.51.100.0/24", "127.0.0.1"}
	return &service{Service: tunneltest.NewService(t, cfg, tunnels, viewers), t: t}
}

// count returns how many tunnels there are.
func (s *service) count() (n int) {
	for range s.Tunnels() {
		n++
	}
	return n
}

// client is a running tunnel client.
type client struct {
	*tunneltest.Client
	service   *service
	conn      atomic.Value  // net.Conn, the last one
	connected chan struct{} // capacity 1: it has connected
	lost      chan struct{} // capacity 1: it has noticed that a session is over
	up        atomic.Bool   // it has a session, as far as it knows
	replaced  chan struct{} // closed after a session has ended with 4000
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
		c.Stop()
		return nil, errNotConnected
	}
}

// start starts a tunnel client.
func (s *service) start(id string, h http.Handler, cfg tunnelclient.Config) *client {
	c := &client{service: s, connected: make(chan struct{}, 1), lost: make(chan struct{}, 1), replaced: make(chan struct{})}
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
	cfg.ServerURL = "http://localhost"
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
	c.Client = s.StartClient(id, h, cfg)
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

// kill ends the client as if its machine were switched off.
func (c *client) kill() {
	c.link().Reset()
	c.Stop()
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
