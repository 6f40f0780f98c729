package grpc

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// countingListener counts connections.
type countingListener struct {
	net.Listener
	n atomic.Int32
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

// TestPlainRequest: a browser or a health check that asks a gRPC server for a page
// gets an answer at once, and calls go on. Versions of grpc-go that reset a GET with
// PROTOCOL_ERROR made that an endless loop of connections.
func TestPlainRequest(t *testing.T) {
	for name, opts := range map[string][]grpc.ServerOption{
		"default":       nil,
		"short-lived":   {grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond})},
		"one at a time": {grpc.MaxConcurrentStreams(1)},
	} {
		t.Run(name, func(t *testing.T) {
			ln := &countingListener{Listener: tunneltest.Listen(t)}
			srv := grpc.NewServer(opts...)
			done := make(chan error, 1)
			go func() { done <- srv.Serve(ln) }()
			t.Cleanup(func() { srv.Stop(); <-done })
			h, err := tunnelclient.ProxyTo("h2c://"+ln.Addr().String(), tunnelclient.ProxyOptions{TLSConfig: &tls.Config{}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.CloseIdleConnections)
			const requests = 30
			for range requests {
				begun := time.Now()
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/healthz", nil))
				// Some versions of grpc-go answer, others reset the stream.
				if !slices.Contains([]int{http.StatusBadGateway, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType}, rec.Code) {
					t.Errorf("%d %q", rec.Code, rec.Body)
				}
				if took := time.Since(begun); took > 5*time.Second {
					t.Errorf("it took %v", took)
				}
				rec = httptest.NewRecorder()
				post := httptest.NewRequest(http.MethodPost, "/a.B/C", strings.NewReader("\x00\x00\x00\x00\x00"))
				post.Header.Set("Content-Type", "application/grpc")
				h.ServeHTTP(rec, post)
				if rec.Header().Get("Grpc-Status") != "12" { // UNIMPLEMENTED: the server has answered
					t.Errorf("a call got %d, %v", rec.Code, rec.Header())
				}
			}
			if n := ln.n.Load(); n > 2*requests+1 {
				t.Errorf("%d connections for %d requests", n, 2*requests)
			}
		})
	}
}
