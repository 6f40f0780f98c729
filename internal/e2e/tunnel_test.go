package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

var secret = []byte("a secret of at least thirty-two bytes")

// service is a running Server that can be stopped and started again on the
// same address.
type service struct {
	t    testing.TB
	cfg  server.Config
	addr string
	url  string
	srv  *server.Server
	ln   *recordingListener
	done chan error

	httpClient *http.Client // of tunnel clients; nil means the default
}

func newService(t testing.TB, cfg server.Config) *service {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, cfg: cfg, addr: ln.Addr().String(), url: "http://" + ln.Addr().String()}
	if cfg.TLSConfig != nil {
		s.url = "https://" + s.addr
	}
	s.cfg.PublicURL = s.url
	s.cfg.Secrets = [][]byte{secret}
	s.cfg.Logger = testLogger(t)
	s.start(ln)
	t.Cleanup(s.stop)
	return s
}

func (s *service) start(ln net.Listener) {
	s.t.Helper()
	var err error
	if s.srv, err = server.New(s.cfg); err != nil {
		s.t.Fatal(err)
	}
	srv, done := s.srv, make(chan error, 1)
	s.done = done
	s.ln = &recordingListener{Listener: ln}
	go func() { done <- srv.Serve(s.ln) }()
}

// recordingListener remembers its connections.
type recordingListener struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (l *recordingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		l.conns = append(l.conns, c)
		l.mu.Unlock()
	}
	return c, err
}

// cutTunnels closes the connections of all tunnel clients without ado.
func (s *service) cutTunnels() {
	remotes := make(map[string]bool)
	for info := range s.srv.Tunnels() {
		remotes[info.RemoteAddr] = true
	}
	s.ln.mu.Lock()
	defer s.ln.mu.Unlock()
	for _, c := range s.ln.conns {
		if remotes[c.RemoteAddr().String()] {
			c.Close()
		}
	}
}

func (s *service) stop() {
	s.srv.Close()
	if err := <-s.done; !errors.Is(err, server.ErrServerClosed) {
		s.t.Errorf("Serve returned %v", err)
	}
	s.done <- server.ErrServerClosed // stop may be called again
}

// restart starts a stopped service on its old address.
func (s *service) restart() {
	s.t.Helper()
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.start(ln)
}

func token(t testing.TB, id string) string {
	t.Helper()
	tok, err := server.MintToken(secret, server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func testLogger(t testing.TB) zerolog.Logger {
	if !testing.Verbose() {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.NewTestWriter(t))
}

// client runs a tunnel client until the test ends, or stop is called, and
// returns the viewer URL.
func (s *service) client(id string, h http.Handler, conn h2conn.Config) (url string, stop func()) {
	s.t.Helper()
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL:  s.url,
		ID:         id,
		Tokens:     tunnelclient.StaticToken(token(s.t, id)),
		Logger:     testLogger(s.t),
		ConnWindow: conn.ConnWindow,
		HTTPClient: s.httpClient,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Serve(ctx, h); err != nil {
			s.t.Errorf("Serve returned %v", err)
		}
	}()
	stop = func() { cancel(); <-done }
	s.t.Cleanup(stop)
	wait, stopWaiting := context.WithTimeout(ctx, 20*time.Second)
	defer stopWaiting()
	if url, err = c.URL(wait); err != nil {
		s.t.Fatal(err)
	}
	return url, stop
}

// target is a real HTTP server behind ProxyTo.
func (s *service) target(id string, h http.Handler, conn h2conn.Config) string {
	s.t.Helper()
	return s.proxied(id, h, tunnelclient.ProxyOptions{}, conn)
}

// proxied is target with options for ProxyTo.
func (s *service) proxied(id string, h http.Handler, o tunnelclient.ProxyOptions, conn h2conn.Config) string {
	s.t.Helper()
	srv := httptest.NewServer(h)
	s.t.Cleanup(srv.Close)
	o.Logger = testLogger(s.t)
	p, err := tunnelclient.ProxyTo(srv.URL, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.CloseIdleConnections)
	url, _ := s.client(id, p, conn)
	return url
}

// viewer returns an HTTP client of its own.
func viewer(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func readAll(t testing.TB, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}
