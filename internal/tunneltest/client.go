package tunneltest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/websocktunnel/websocktunnel/target"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Client is a running [tunnelclient.Client].
type Client struct {
	*tunnelclient.Client

	// URL is where viewers reach the tunnel, without a slash at the end. It is
	// empty if [Service.StartClient] has started the client.
	URL string

	stop func()
}

// Client runs a tunnel client that answers with h until the test ends, and
// waits until it is connected: a viewer that comes now is served.
//
// It fills in ID, and where they are zero ServerURL, Tokens, Logger and, for a
// service with TLS, HTTPClient.
func (s *Service) Client(id string, h http.Handler, cfg tunnelclient.Config) *Client {
	s.t.Helper()
	c := s.StartClient(id, h, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if c.URL, err = c.Client.URL(ctx); err != nil {
		s.t.Fatal(err)
	}
	s.WaitAnnounced(id)
	return c
}

// StartClient is [Service.Client] without the wait. Any goroutine may call it
// if cfg is valid.
func (s *Service) StartClient(id string, h http.Handler, cfg tunnelclient.Config) *Client {
	s.t.Helper()
	cfg.ID = id
	if cfg.ServerURL == "" {
		cfg.ServerURL = s.holderURL()
	}
	if cfg.Tokens == nil {
		cfg.Tokens = tunnelclient.StaticToken(s.Token(id))
	}
	if reflect.ValueOf(cfg.Logger).IsZero() {
		cfg.Logger = NewLogger(s.t)
	}
	if cfg.HTTPClient == nil && s.cfg.TLSConfig != nil {
		tr := &http.Transport{TLSClientConfig: ClientTLS()}
		s.t.Cleanup(tr.CloseIdleConnections)
		cfg.HTTPClient = &http.Client{Transport: tr}
	}
	tc, err := tunnelclient.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	c := &Client{Client: tc, stop: func() {
		cancel()
		<-done
	}}
	s.t.Cleanup(c.stop) // and no more of c, of which a test may start many
	go func() {
		defer close(done)
		if err := tc.Serve(ctx, h); err != nil {
			s.t.Errorf("Serve of tunnel client %q returned %v", id, err)
		}
	}()
	return c
}

// Stop ends the client in good order, as the end of the test does, and waits
// for that. It may be called more than once and by any goroutine.
func (c *Client) Stop() { c.stop() }

// Proxy is [Service.Client] with a handler that leads to an HTTP server, see
// [ProxyTo].
func (s *Service) Proxy(id, addr string, o tunnelclient.ProxyOptions) *Client {
	s.t.Helper()
	return s.Client(id, ProxyTo(s.t, addr, o), tunnelclient.Config{})
}

// Target is [Service.Proxy] to an HTTP server of its own that answers with h.
func (s *Service) Target(id string, h http.Handler, o tunnelclient.ProxyOptions) *Client {
	s.t.Helper()
	hs := httptest.NewServer(h)
	s.t.Cleanup(hs.Close)
	return s.Proxy(id, hs.URL, o)
}

// ProxyTo is [tunnelclient.ProxyTo] for tests: where they are zero it fills in
// Logger and a TLSConfig that trusts [Certificate].
func ProxyTo(t testing.TB, addr string, o tunnelclient.ProxyOptions) *target.Proxy {
	t.Helper()
	if reflect.ValueOf(o.Logger).IsZero() {
		o.Logger = NewLogger(t)
	}
	if o.TLSConfig == nil {
		o.TLSConfig = ClientTLS()
	}
	p, err := tunnelclient.ProxyTo(addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdleConnections)
	return p
}
