package harness

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Secret signs the tokens of this package's tunnel clients.
var Secret = []byte("a secret of at least thirty-two bytes")

// readyTimeout bounds how long a tunnel client may take to connect.
const readyTimeout = 20 * time.Second

// Options says how a service is to run. The zero value is a plain listener
// for HTTP/1 and h2c.
type Options struct {
	// TLS makes the listener speak TLS with [Certificate].
	TLS bool

	// Server tunes the service. PublicURL, Secrets, Logger and TLSConfig are
	// filled in.
	Server server.Config
}

// Service is a running service.
type Service struct {
	Addr   string // host:port of its listener
	URL    string // its public URL, without a trailing slash
	Server *server.Server

	t   testing.TB
	tls bool
}

// Start runs a service on a free port of 127.0.0.1 until the test ends.
func Start(t testing.TB, o Options) *Service {
	t.Helper()
	ln := Listen(t)
	s := &Service{Addr: ln.Addr().String(), t: t, tls: o.TLS}
	cfg := o.Server
	cfg.Secrets = [][]byte{Secret}
	cfg.Logger = Logger(t)
	if o.TLS {
		s.URL = "https://" + s.Addr
		cfg.TLSConfig = &tls.Config{Certificates: []tls.Certificate{Certificate()}}
	} else {
		s.URL = "http://" + s.Addr
	}
	cfg.PublicURL = s.URL
	srv, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = srv
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ln) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-done; !errors.Is(err, server.ErrServerClosed) {
			t.Errorf("server: Serve returned %v", err)
		}
	})
	return s
}

// Client runs a tunnel client that answers with h until the test ends, waits
// until it is connected, and returns the URL that viewers use.
func (s *Service) Client(id string, h http.Handler) (url string) {
	s.t.Helper()
	token, err := server.MintToken(Secret, server.Claims{ID: id, TTL: time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := tunnelclient.Config{
		ServerURL: s.URL,
		ID:        id,
		Tokens:    tunnelclient.StaticToken(token),
		Logger:    Logger(s.t),
		// Tests end with what they want to wait for; the rest is broken off.
		DrainTimeout: -1,
	}
	if s.tls {
		tr := &http.Transport{TLSClientConfig: ClientTLS()}
		s.t.Cleanup(tr.CloseIdleConnections)
		cfg.HTTPClient = &http.Client{Transport: tr}
	}
	c, err := tunnelclient.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, h) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("tunnelclient: Serve returned %v", err)
		}
	})
	ready, stopWaiting := context.WithTimeout(ctx, readyTimeout)
	defer stopWaiting()
	url, err = c.URL(ready)
	if err != nil {
		s.t.Fatal(err)
	}
	return url
}

// Target is Client with a handler that leads to target, see
// [tunnelclient.ProxyTo]. Targets with [Certificate] are believed, unless o has
// a TLSConfig of its own.
func (s *Service) Target(id, target string, o tunnelclient.ProxyOptions) (url string) {
	s.t.Helper()
	if o.TLSConfig == nil {
		o.TLSConfig = ClientTLS()
	}
	o.Logger = Logger(s.t)
	p, err := tunnelclient.ProxyTo(target, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(p.CloseIdleConnections)
	return s.Client(id, p)
}

// Listen returns a listener on a free port of 127.0.0.1. It is closed when the
// test ends, if that has not happened before.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Logger logs to t with go test -v, else nowhere.
func Logger(t testing.TB) zerolog.Logger {
	if !testing.Verbose() {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.NewTestWriter(t))
}
