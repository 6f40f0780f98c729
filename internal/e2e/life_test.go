package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

// TestServiceRestart: after an outage of less than 3 s the same URL works
// again within 2 s of the service being back, and nobody did anything.
func TestServiceRestart(t *testing.T) {
	for _, outage := range []time.Duration{0, time.Second, 2900 * time.Millisecond} {
		t.Run(outage.String(), func(t *testing.T) {
			t.Parallel()
			s := newService(t, server.Config{})
			url, _ := s.client("a", http.HandlerFunc(ok), h2conn.Config{})
			v := viewer(t)
			s.stop()
			<-time.After(outage)
			s.restart()
			back := time.Now()
			for {
				resp, err := v.Get(url)
				if err == nil {
					body := readAll(t, resp)
					if resp.StatusCode == 200 && body == "ok" {
						break
					}
				}
				if time.Since(back) > 10*time.Second {
					t.Fatal("the tunnel does not come back")
				}
				<-time.After(5 * time.Millisecond)
			}
			d := time.Since(back)
			t.Logf("back after %v", d)
			if d > 3*time.Second { // one for a busy machine
				t.Errorf("it took %v", d)
			}
		})
	}
}

// TestTwoClientsOneID: the newer serves at once, a request in flight on the
// older completes, and they do not evict each other in a loop.
func TestTwoClientsOneID(t *testing.T) {
	s := newService(t, server.Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	url, _ := s.client("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		io.WriteString(w, "older")
	}), h2conn.Config{})
	v := viewer(t)
	inFlight := make(chan string, 1)
	go func() {
		resp, err := v.Get(url + "/slow")
		if err != nil {
			inFlight <- err.Error()
			return
		}
		inFlight <- readAll(t, resp)
	}()
	<-arrived
	url2, _ := s.client("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "newer") }), h2conn.Config{})
	if url2 != url {
		t.Errorf("URLs are %q and %q", url, url2)
	}
	// Until the newer has answered its first ping the older goes on serving.
	for newer, deadline := 0, time.Now().Add(10*time.Second); newer < 10; {
		resp, err := v.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		switch got := readAll(t, resp); {
		case got == "newer":
			newer++
		case newer > 0 || time.Now().After(deadline):
			t.Fatalf("a new request got %q", got)
		}
	}
	close(release)
	if got := <-inFlight; got != "older" {
		t.Errorf("the request in flight got %q", got)
	}
}

// TestURLMeansReady: a viewer that comes the moment the client knows its URL
// is served.
func TestURLMeansReady(t *testing.T) {
	s := newService(t, server.Config{})
	v := viewer(t)
	for i := range 50 {
		url, stop := s.client(fmt.Sprint("c", i), http.HandlerFunc(ok), h2conn.Config{})
		resp, err := v.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp); resp.StatusCode != 200 || got != "ok" {
			t.Errorf("client %d: %d %q", i, resp.StatusCode, got)
		}
		stop()
	}
}

// TestTokensFromReader: a second token while running drops nothing and is
// used for the next reconnect, when the first has expired.
func TestTokensFromReader(t *testing.T) {
	s := newService(t, server.Config{})
	pr, pw := io.Pipe()
	defer pw.Close()
	var connects atomic.Int32
	connected := make(chan struct{}, 10)
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: s.url, ID: "a", Tokens: tunnelclient.TokenReader(pr), Logger: testLogger(t),
		OnStateChange: func(st tunnelclient.State) {
			if st.Phase == tunnelclient.PhaseConnected && st.Err == nil {
				connects.Add(1)
				connected <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	arrived, release := make(chan struct{}), make(chan struct{})
	go func() {
		done <- c.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(arrived)
				<-release
			}
			io.WriteString(w, "ok")
		}))
	}()
	// Expired for the service's clock in 60 s leeway minus a little.
	first, err := server.MintToken(secret, server.Claims{ID: "a", TTL: time.Second, NotBefore: time.Now().Add(-30 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(pw, first)
	<-connected
	url, err := c.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	inFlight := make(chan string, 1)
	v := viewer(t)
	go func() {
		resp, err := v.Get(url + "/slow")
		if err != nil {
			inFlight <- err.Error()
			return
		}
		inFlight <- readAll(t, resp)
	}()
	<-arrived
	fmt.Fprintln(pw, token(t, "a"))
	deadline := time.After(10 * time.Second)
	for refreshed := false; !refreshed; {
		for info := range s.srv.Tunnels() {
			refreshed = time.Until(info.TokenExpires) > 30*time.Minute
		}
		select {
		case <-deadline:
			t.Fatal("the second token did not arrive at the service")
		case <-time.After(time.Millisecond):
		}
	}
	if n := connects.Load(); n != 1 {
		t.Errorf("there were %d sessions", n)
	}
	close(release)
	if got := <-inFlight; got != "ok" {
		t.Errorf("the request in flight got %q", got)
	}
	// The service comes back with another clock: the first token is long over.
	s.stop()
	s.restart()
	<-connected
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
