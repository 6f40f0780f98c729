package harness

import (
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Options says how a service is to run. The zero value is a plain listener
// for HTTP/1 and h2c.
type Options struct {
	// TLS makes the listener speak TLS with [tunneltest.Certificate].
	TLS bool

	// Server tunes the service, see [tunneltest.NewService].
	Server server.Config
}

// Service is a running service.
type Service struct {
	*tunneltest.Service
	t testing.TB
}

// Start runs a service on a free port of 127.0.0.1 until the test ends.
func Start(t testing.TB, o Options) *Service {
	t.Helper()
	if o.TLS {
		o.Server.TLSConfig = tunneltest.ServerTLS()
	}
	return &Service{tunneltest.NewService(t, o.Server), t}
}

// Client runs a tunnel client that answers with h until the test ends, waits
// until it is connected, and returns the URL that viewers use. Tests end with
// what they want to wait for; the rest is broken off.
func (s *Service) Client(id string, h http.Handler) (url string) {
	s.t.Helper()
	return s.Service.Client(id, h, tunnelclient.Config{DrainTimeout: -1}).URL
}

// Target is Client with a handler that leads to target, see
// [tunneltest.ProxyTo].
func (s *Service) Target(id, target string, o tunnelclient.ProxyOptions) (url string) {
	s.t.Helper()
	return s.Client(id, tunneltest.ProxyTo(s.t, target, o))
}
