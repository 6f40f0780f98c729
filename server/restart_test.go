package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestStartupWait: soon after the start a viewer waits for its tunnel; later,
// and with the wait off, it gets 404 at once.
func TestStartupWait(t *testing.T) {
	s := newService(t, Config{StartupWait: time.Hour})
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer, 2)
	get := func() {
		resp, err := http.Get(s.url + "/a/")
		if err != nil {
			t.Error(err)
			answers <- answer{}
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answers <- answer{resp.StatusCode, string(b)}
	}
	waiting := func(id string, n int) bool {
		s.registry.mu.Lock()
		defer s.registry.mu.Unlock()
		tun := s.registry.tunnels[labelOf(id)]
		return n == 0 && tun == nil || tun != nil && tun.expecting == n
	}
	go get()
	go get()
	waitFor(t, func() bool { return waiting("a", 2) })

	// One who leaves is no longer waited for.
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/b/", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			t.Errorf("got %d", resp.StatusCode)
			resp.Body.Close()
		}
	}()
	waitFor(t, func() bool { return waiting("b", 1) })
	cancel()
	<-left
	waitFor(t, func() bool { return waiting("b", 0) })

	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "here") }))
	for range 2 {
		if a := <-answers; a.status != 200 || a.body != "here" {
			t.Errorf("got %v", a)
		}
	}

	s.expectUntil = time.Now() // an hour later
	if resp, _ := s.get("/c/"); resp.StatusCode != 404 {
		t.Errorf("later: %d, want 404", resp.StatusCode)
	}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if n := s.registry.expecting; n != 0 || len(s.registry.tunnels) != 1 {
		t.Errorf("%d still expect a tunnel, of %d known", n, len(s.registry.tunnels))
	}
}

// TestDrainDelay: the heartbeat fails at once, tunnels are asked to go only
// after the delay, and viewers are sent to other connections.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{DrainDelay: 300 * time.Millisecond})
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hints" {
			w.WriteHeader(http.StatusEarlyHints)
		}
		io.WriteString(w, "here")
	}))
	s.waitActive(c)
	h2 := s.http2Viewer()

	begun := time.Now()
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	waitFor(t, s.isDraining)
	if resp, _ := s.get("/__heartbeat__"); resp.StatusCode != 503 {
		t.Errorf("the heartbeat says %d", resp.StatusCode)
	}
	for _, path := range []string{"/a/", "/a/hints", "/nobody/"} {
		if resp, _ := s.get(path); !resp.Close {
			t.Errorf("%s: the answer does not ask for another connection: %v", path, resp.Header)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/a/", nil)
	resp, err := h2.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("over HTTP/2: %d", resp.StatusCode)
	}
	waitFor(t, func() bool { return !h2.CanTakeNewRequest() }) // a GOAWAY has come

	m := <-c.control
	if d := time.Since(begun); m.Type != wire.TypeGoaway || d < 300*time.Millisecond {
		t.Errorf("%+v after %v", m, d)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestDrainDelayCutShort: Close does not wait for the delay.
func TestDrainDelayCutShort(t *testing.T) {
	s := newService(t, Config{DrainDelay: time.Hour})
	s.waitActive(s.connect("a", echoHandler))
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	waitFor(t, s.isDraining)
	s.Close()
	s.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestLeavingSessionWaitsForItsClient: a session that is sent away serves on
// until its client says that it is elsewhere, and not for ever.
func TestLeavingSessionWaitsForItsClient(t *testing.T) {
	t.Parallel()
	for _, says := range []bool{true, false} {
		t.Run(fmt.Sprintf("goaway=%v", says), func(t *testing.T) {
			t.Parallel()
			s := newService(t, Config{})
			c := s.connect("a", echoHandler)
			s.waitActive(c)
			down := make(chan error, 1)
			begun := time.Now()
			go func() { down <- s.Shutdown(context.Background()) }()
			<-c.control
			<-time.After(1500 * time.Millisecond)
			if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
				t.Errorf("before the client has gone: %d", resp.StatusCode)
			}
			if says {
				c.conn.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode())
			}
			if err := <-down; err != nil {
				t.Error(err)
			}
			switch took := time.Since(begun); {
			case says && took > leaveGap-time.Second:
				t.Errorf("it took %v although the client had gone", took)
			case !says && (took < leaveGap || took > 2*leaveGap):
				t.Errorf("it took %v, want about %v", took, leaveGap)
			}
		})
	}
}
