package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestStatus: the totals, and that a wait for a slot is seen while it lasts and
// counted when it is over.
func TestStatus(t *testing.T) {
	m, reg := newMetrics(t)
	s := newService(t, Config{Metrics: m, MaxStreams: 1, MaxTunnels: 3})
	release := make(chan struct{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		io.WriteString(w, "hello")
	})))
	done := make(chan struct{}, 2)
	for range 2 {
		go func() {
			s.get("/a/")
			done <- struct{}{}
		}()
	}
	waitFor(t, func() bool { st := s.Status(); return st.InFlight == 1 && st.Waiting == 1 })
	st := s.Status()
	if st.Tunnels != 1 || st.MaxTunnels != 3 || st.Slots != 1 || st.Sessions["active"] != 1 || len(st.Sessions) != 4 || st.Connections != 2 || st.Draining {
		t.Errorf("status: %+v", st)
	}
	if n := value(t, reg, "websocktunnel_requests_waiting", ""); n != 1 {
		t.Errorf("%v requests wait, want 1", n)
	}
	close(release)
	<-done
	<-done
	if n := value(t, reg, "websocktunnel_queue_wait_seconds", ""); n != 1 {
		t.Errorf("%v waits are over, want 1", n)
	}
	waitFor(t, func() bool { return s.Status().InFlight == 0 })
	if st := s.Status(); st.Sent != 10 || st.Received != 0 {
		t.Errorf("%d bytes to viewers and %d from them, want 10 and 0", st.Sent, st.Received)
	}
}

// TestTunnelDetails: the sessions of a tunnel, and the last of its failures.
func TestTunnelDetails(t *testing.T) {
	s := newService(t, Config{})
	if _, ok := s.Tunnel("a"); ok {
		t.Error("there is a tunnel that never connected")
	}
	held := make(chan struct{})
	defer close(held)
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		<-held
	})))
	resp, err := s.http.Get(s.url + "/a/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(wire.HeaderError, strings.TrimPrefix(r.URL.Path, "/"))
		w.WriteHeader(http.StatusBadGateway)
	})))
	for range maxFailures + 2 {
		s.get("/a/connection_refused")
	}
	s.get("/a/dns_error")
	waitFor(t, func() bool {
		d, _ := s.Tunnel("a")
		return len(d.Failures) > 0 && d.Failures[0].Error == "dns_error"
	})
	d, ok := s.Tunnel("a")
	if !ok || d.ID != "a" || d.Active == nil || d.Active.Replacements != 1 || d.Active.RoundTrip <= 0 || d.Active.RoundTrip > time.Minute {
		t.Fatalf("details: %+v, active: %+v", d, d.Active)
	}
	if len(d.Sessions) != 2 || d.Sessions[0].State != "draining" || d.Sessions[0].InFlight != 1 || d.Sessions[1].State != "active" {
		t.Errorf("sessions: %+v", d.Sessions)
	}
	if len(d.Failures) != maxFailures {
		t.Errorf("%d failures are remembered, want %d", len(d.Failures), maxFailures)
	}
	if got := d.Active.Failed; got != maxFailures+3 {
		t.Errorf("%d requests have failed, want %d", got, maxFailures+3)
	}
	if f := d.Failures[1]; f.Status != 502 || f.Hop != "target" || f.Error != "connection_refused" || f.RequestID == "" || time.Since(f.Time) > time.Minute {
		t.Errorf("failure: %+v", f)
	}
	s.Evict("a")
	if got := fmt.Sprint(s.Evicted()); got != "[a]" {
		t.Errorf("evicted: %s", got)
	}
	s.Unblock("a")
	if got := s.Evicted(); len(got) != 0 {
		t.Errorf("evicted: %v, although unblocked", got)
	}
}
