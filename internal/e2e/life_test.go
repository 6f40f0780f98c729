package e2e

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
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
			s := tunneltest.NewService(t, server.Config{})
			url := s.Client("a", http.HandlerFunc(ok), tunnelclient.Config{}).URL
			v := tunneltest.NewViewer(t)
			s.Stop()
			<-time.After(outage)
			s.Restart()
			back := time.Now()
			for {
				resp, err := v.Get(url)
				if err == nil {
					body := tunneltest.ReadAll(t, resp)
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
	s := tunneltest.NewService(t, server.Config{})
	arrived, release := make(chan struct{}), make(chan struct{})
	url := s.Client("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		io.WriteString(w, "older")
	}), tunnelclient.Config{}).URL
	v := tunneltest.NewViewer(t)
	inFlight := make(chan string, 1)
	go func() {
		resp, err := v.Get(url + "/slow")
		if err != nil {
			inFlight <- err.Error()
			return
		}
		inFlight <- tunneltest.ReadAll(t, resp)
	}()
	<-arrived
	url2 := s.Client("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "newer") }), tunnelclient.Config{}).URL
	if url2 != url {
		t.Errorf("URLs are %q and %q", url, url2)
	}
	// Until the newer has answered its first ping the older goes on serving.
	for newer, deadline := 0, time.Now().Add(10*time.Second); newer < 10; {
		resp, err := v.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		switch got := tunneltest.ReadAll(t, resp); {
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
	s := tunneltest.NewService(t, server.Config{})
	v := tunneltest.NewViewer(t)
	for i := range 50 {
		c := s.Client(fmt.Sprint("c", i), http.HandlerFunc(ok), tunnelclient.Config{})
		resp, err := v.Get(c.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got := tunneltest.ReadAll(t, resp); resp.StatusCode != 200 || got != "ok" {
			t.Errorf("client %d: %d %q", i, resp.StatusCode, got)
		}
		c.Stop()
	}
}

// TestTokensFromReader: a second token while running drops nothing and is
// used for the next reconnect, when the first has expired.
func TestTokensFromReader(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	pr, pw := io.Pipe()
	defer pw.Close()
	var connects atomic.Int32
	connected := make(chan struct{}, 10)
	arrived, release := make(chan struct{}), make(chan struct{})
	c := s.StartClient("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(arrived)
			<-release
		}
		io.WriteString(w, "ok")
	}), tunnelclient.Config{
		Tokens: tunnelclient.TokenReader(pr),
		OnStateChange: func(st tunnelclient.State) {
			if st.Phase == tunnelclient.PhaseConnected && st.Err == nil {
				connects.Add(1)
				connected <- struct{}{}
			}
		},
	})
	// Expired for the service's clock in 60 s leeway minus a little.
	first, err := server.MintToken(tunneltest.Secret, server.Claims{ID: "a", TTL: time.Second, NotBefore: time.Now().Add(-30 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(pw, first)
	<-connected
	url, err := c.Client.URL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inFlight := make(chan string, 1)
	v := tunneltest.NewViewer(t)
	go func() {
		resp, err := v.Get(url + "/slow")
		if err != nil {
			inFlight <- err.Error()
			return
		}
		inFlight <- tunneltest.ReadAll(t, resp)
	}()
	<-arrived
	fmt.Fprintln(pw, tunneltest.Token(t, "a"))
	deadline := time.After(10 * time.Second)
	for refreshed := false; !refreshed; {
		for info := range s.Tunnels() {
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
	s.Restart()
	<-connected
	c.Stop()
}
