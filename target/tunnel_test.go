package target_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// tunnel is the service's end of a tunnel.
type tunnel struct {
	t      *testing.T
	asking *h2conn.Transport
}

// tunnelTo opens a tunnel to h. It does not drain at the end, since HTTP/2
// takes a second for that.
func tunnelTo(t *testing.T, h http.Handler) *tunnel {
	t.Helper()
	accepted := make(chan *h2conn.Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := h2conn.Accept(w, r, h2conn.AcceptOptions{})
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}))
	t.Cleanup(srv.Close)
	c, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cfg := h2conn.Config{PingInterval: -1}
	served := make(chan struct{})
	go func() {
		defer close(served)
		h2conn.Serve(context.Background(), c, h, h2conn.ServeConfig{Config: cfg})
	}()
	asking, err := h2conn.NewTransport(<-accepted, h2conn.TransportConfig{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		asking.Close()
		<-served
	})
	return &tunnel{t, asking}
}

// expect asks for path and must get want.
func (tn *tunnel) expect(path, want string) {
	tn.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://tunnel"+path, nil)
	if err != nil {
		tn.t.Fatal(err)
	}
	resp, err := tn.asking.RoundTrip(req)
	if err != nil {
		tn.t.Errorf("GET %s: %v", path, err)
		return
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
		tn.t.Errorf("GET %s: %q, %v; want %q", path, b, err, want)
	}
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	io.WriteString(w, "hello "+r.URL.Path)
})
