package tunneltest

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"iter"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/server"
)

// patience bounds the waits for what takes milliseconds unless the machine is
// busy.
const patience = 20 * time.Second

// Service is a running [server.Server].
type Service struct {
	// Server is the running one. [Service.Restart] replaces it.
	Server *server.Server

	// URL is the public URL, without a slash at the end.
	URL string

	// Addr is the address of the first listener, which is the one for tunnel
	// clients where there are several.
	Addr string

	// holder is the node that tunnel clients connect to, at holderAddr: Server, unless
	// there are two.
	holder     *server.Server
	holderAddr string

	t     testing.TB
	cfg   server.Config
	conns connections
	stop  func()
}

// NewService runs a service on the given listeners until the test ends. Without
// any it listens on a free port of 127.0.0.1.
//
// Where they are zero it fills in PublicURL (from Addr), Secrets ([Secret]) and
// Logger ([NewLogger]). It speaks TLS if cfg has a TLSConfig, such as
// [ServerTLS] returns.
func NewService(t testing.TB, cfg server.Config, listeners ...net.Listener) *Service {
	t.Helper()
	if len(listeners) == 0 {
		listeners = []net.Listener{Listen(t)}
	}
	s := &Service{Addr: listeners[0].Addr().String(), t: t}
	if cfg.PublicURL == "" {
		cfg.PublicURL = "http://" + s.Addr
		if cfg.TLSConfig != nil {
			cfg.PublicURL = "https://" + s.Addr
		}
	}
	if cfg.Secrets == nil {
		cfg.Secrets = [][]byte{Secret}
	}
	if reflect.ValueOf(cfg.Logger).IsZero() {
		cfg.Logger = NewLogger(t)
	}
	s.URL, s.cfg = cfg.PublicURL, cfg
	s.start(listeners)
	t.Cleanup(s.Stop)
	return s
}

func (s *Service) start(listeners []net.Listener) {
	s.t.Helper()
	if !s.twoNodes() {
		s.Server, s.stop = s.serve(s.cfg, listeners)
		s.holder, s.holderAddr = s.Server, s.Addr
		return
	}
	directory := new(cluster.Memory)
	entry, stopEntry := s.serveNode("entry", directory, listeners)
	ln := s.listen(s.holderAddr)
	s.holderAddr = ln.Addr().String()
	holder, stopHolder := s.serveNode("holder", directory, []net.Listener{ln})
	s.Server, s.holder = entry, holder
	s.stop = func() { stopEntry(); stopHolder() }
}

// listen returns a listener on addr, or on a free port of 127.0.0.1 if that is empty.
// The server that gets it closes it.
func (s *Service) listen(addr string) net.Listener {
	s.t.Helper()
	ln, err := net.Listen("tcp", cmp.Or(addr, "127.0.0.1:0"))
	if err != nil {
		s.t.Fatal(err)
	}
	return ln
}

// holderURL is the public URL with the address that tunnel clients connect to.
func (s *Service) holderURL() string {
	return strings.Replace(s.URL, "//"+s.Addr, "//"+s.holderAddr, 1)
}

// twoNodes reports whether viewers are to reach one node, and tunnel clients another: the
// suites run through two with WST_NODES=2.
func (s *Service) twoNodes() bool { return os.Getenv("WST_NODES") == "2" && s.cfg.Cluster == nil }

// serveNode is serve for one node of a cluster.
func (s *Service) serveNode(name string, d cluster.Directory, listeners []net.Listener) (*server.Server, func()) {
	s.t.Helper()
	ln := s.listen("")
	cfg := s.cfg
	if len(listeners) > 0 && listeners[0].Addr().String() != s.Addr {
		cfg.Metrics = nil // they are those of one Server: of the one that viewers come to
	}
	secret := sha256.Sum256([]byte(s.Addr)) // each service its own: by that it is known when a request comes round
	cfg.Cluster = &server.ClusterConfig{Directory: d, Node: name, Addr: ln.Addr().String(), Secrets: [][]byte{secret[:]}}
	srv, stop := s.serve(cfg, listeners)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := srv.ServeCluster(ln); !errors.Is(err, server.ErrServerClosed) {
			s.t.Errorf("ServeCluster of %s returned %v", name, err)
		}
	})
	return srv, func() { stop(); serving.Wait() }
}

// serve runs a server of cfg on listeners, and returns what ends it.
func (s *Service) serve(cfg server.Config, listeners []net.Listener) (*server.Server, func()) {
	s.t.Helper()
	srv, err := server.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	var serving sync.WaitGroup
	for i, ln := range listeners {
		if i == 0 {
			ln = recordingListener{ln, &s.conns}
		}
		serving.Go(func() {
			if err := srv.Serve(ln); !errors.Is(err, server.ErrServerClosed) {
				s.t.Errorf("Serve of the service returned %v", err)
			}
		})
	}
	return srv, sync.OnceFunc(func() {
		srv.Close()
		serving.Wait()
	})
}

// TunnelAddr is the address that tunnel clients connect to: Addr, unless there are two
// nodes.
func (s *Service) TunnelAddr() string { return s.holderAddr }

// SingleNode skips a test of what one process does by itself when the suites run through
// two nodes. why says what that is.
func SingleNode(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("WST_NODES") == "2" {
		t.Skipf("SKIPPED with two nodes: %s", why)
	}
}

// WaitAnnounced waits until the node that viewers come to can know of the tunnel, if it is
// on another one.
func (s *Service) WaitAnnounced(id string) {
	s.t.Helper()
	if s.Server == s.holder {
		return
	}
	s.WaitTunnel(id)
	if !Poll(patience, func() bool { st, _ := s.holder.Cluster(); return st.Pending == 0 && len(st.Nodes) > 1 }) {
		s.t.Fatal("the node that has the tunnel has not announced it")
	}
}

// Stop ends the service at once, with all its connections, as the end of the
// test does. It may be called more than once.
func (s *Service) Stop() { s.stop() }

// Restart stops the service and starts another with the same Config, on Addr
// alone, which has to be one of TCP.
func (s *Service) Restart() {
	s.t.Helper()
	s.Stop()
	s.start([]net.Listener{s.listen(s.Addr)})
}

// Token returns a token for id that the service accepts for an hour.
func (s *Service) Token(id string) string {
	s.t.Helper()
	return mint(s.t, s.cfg.Secrets[0], id)
}

// Tunnels iterates over what the service, or each of its nodes, says of its tunnels.
// Any goroutine may call it.
func (s *Service) Tunnels() iter.Seq[server.TunnelInfo] {
	return func(yield func(server.TunnelInfo) bool) {
		for info := range s.holder.Tunnels() {
			if !yield(info) {
				return
			}
		}
		if s.Server == s.holder {
			return
		}
		for info := range s.Server.Tunnels() {
			if !yield(info) {
				return
			}
		}
	}
}

// Tunnel returns what the service says of a tunnel, and whether there is one.
// Any goroutine may call it.
func (s *Service) Tunnel(id string) (server.TunnelInfo, bool) {
	for info := range s.Tunnels() {
		if info.ID == id {
			return info, true
		}
	}
	return server.TunnelInfo{}, false
}

// WaitTunnel waits until the tunnel takes requests: shortly after its client
// is connected, as far as that knows.
func (s *Service) WaitTunnel(id string) (info server.TunnelInfo) {
	s.t.Helper()
	if !Poll(patience, func() (ok bool) { info, ok = s.Tunnel(id); return ok }) {
		s.t.Fatalf("no tunnel %q", id)
	}
	return info
}

// InFlight returns how many requests all tunnels carry. Any goroutine may call
// it.
func (s *Service) InFlight() (n int) {
	for info := range s.Tunnels() {
		n += info.InFlight
	}
	return n
}

// CutTunnels closes the connections of all active sessions without a word to
// their tunnel clients. Any goroutine may call it.
func (s *Service) CutTunnels() {
	for info := range s.Tunnels() {
		s.Cut(info.RemoteAddr)
	}
}

// Cut closes the service's end of the connection that came from remoteAddr to
// the first listener, if there is one. Any goroutine may call it.
func (s *Service) Cut(remoteAddr string) { s.conns.cut(func(a string) bool { return a == remoteAddr }) }

// CutOthers closes the service's end of all connections of the first listener
// but the one that came from remoteAddr. Any goroutine may call it.
func (s *Service) CutOthers(remoteAddr string) {
	s.conns.cut(func(a string) bool { return a != remoteAddr })
}

// ServerTLS returns the configuration of a TLS server with [Certificate]. The
// caller may change it.
func ServerTLS() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{Certificate()}}
}
