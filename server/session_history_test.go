package server

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestGone: a tunnel that has gone is remembered with why, and with what failed. When
// it comes back that counts, wherever an operator looks.
func TestGone(t *testing.T) {
	m, reg := newMetrics(t)
	s := newService(t, Config{Metrics: m})
	refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderError, "connection_refused")
		w.WriteHeader(http.StatusBadGateway)
	})
	lose := func(c *testClient) {
		before := value(t, reg, "websocktunnel_session_ends_total", `reason="lost"`)
		c.conn.Abort()
		waitFor(t, func() bool { return value(t, reg, "websocktunnel_session_ends_total", `reason="lost"`) > before })
	}
	s.waitActive(s.connect("stays", echoHandler))
	for n := range flapping {
		c := s.connect("flaps", refuse)
		s.waitActive(c)
		d, _ := s.Tunnel("flaps")
		if a := d.Active; a == nil || d.Gone != nil || a.Reconnects != n || a.LastEndReason != strings.Repeat("lost", min(n, 1)) || a.Failed != uint64(n) {
			t.Fatalf("reconnection %d: %+v, active: %+v", n, d, a)
		}
		s.get("/flaps/")
		waitFor(t, func() bool { d, _ := s.Tunnel("flaps"); return d.Active.Failed == uint64(n+1) })
		lose(c)
		gone := slices.Collect(s.Gone())
		if len(gone) != 1 || !gone[0].Gone || gone[0].ID != "flaps" || gone[0].LastEndReason != "lost" || gone[0].Reconnects != n || time.Since(gone[0].LastEnd) > time.Minute {
			t.Fatalf("gone: %+v", gone)
		}
	}
	d, ok := s.Tunnel("flaps")
	if !ok || d.Active != nil || d.Gone == nil || d.Gone.Failed != flapping || len(d.Failures) != flapping {
		t.Errorf("details: %+v", d)
	}
	if n := s.Status().Flapping; n != 0 {
		t.Errorf("%d tunnels flap, want none yet", n)
	}
	c := s.connect("flaps", refuse)
	s.waitActive(c)
	s.waitActive(s.connect("flaps", refuse))
	if n := s.Status().Flapping; n != 1 {
		t.Errorf("%d tunnels flap, want 1", n)
	}
	if n := len(slices.Collect(s.Gone())); n != 0 {
		t.Errorf("%d have gone, want none", n)
	}
	for after, want := range map[string]float64{"lost": flapping, "replaced": 1, "stopped": 0} {
		if got := value(t, reg, "websocktunnel_reconnects_total", fmt.Sprintf("after=%q", after)); got != want {
			t.Errorf("%v reconnections after %s, want %v", got, after, want)
		}
	}
	if got := value(t, reg, "websocktunnel_flapping_tunnels", ""); got != 1 {
		t.Errorf("metric of flapping tunnels: %v", got)
	}
}

// TestEvictGone: who flaps can be evicted while it is away. Its token is blocked then.
func TestEvictGone(t *testing.T) {
	s := newService(t, Config{})
	token := mint(t, "a")
	c, _, err := s.dial("a", token)
	if err != nil {
		t.Fatal(err)
	}
	c.serve(echoHandler)
	s.waitActive(c)
	c.conn.Abort()
	waitFor(t, func() bool { return len(slices.Collect(s.Gone())) == 1 })
	if !s.Evict("a") {
		t.Error("it cannot be evicted")
	}
	if s.Evict("a") {
		t.Error("it has been evicted twice")
	}
	if _, resp, err := s.dial("a", token); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("its token is let in: %v", err)
	}
	if d, _ := s.Tunnel("a"); d.Gone == nil || d.Gone.LastEndReason != "evicted" {
		t.Errorf("details: %+v", d)
	}
	if !s.Unblock("a") {
		t.Error("nothing is blocked")
	}
	c, _, err = s.dial("a", token)
	if err != nil {
		t.Fatalf("its token is not let in again: %v", err)
	}
	c.conn.Abort()
}

// TestHistoryBounds: whatever comes and goes, no more is remembered than the limits of
// number, memory and time allow.
func TestHistoryBounds(t *testing.T) {
	now := time.Now()
	went := func(n int, at time.Time) *past {
		id := fmt.Sprintf("id-%05d", n)
		return &past{label: label(id), left: at, last: &lastSession{info: TunnelInfo{ID: id}}}
	}
	for limit, most := range map[int64]int{0: maxGone, 64 << 20: (64 << 20) / budgetPart / gonePart / (goneCost + 2*len("id-12345"))} {
		g := newRegistry(newMemory(limit, trustedProxies{}))
		h := &g.history
		for n := range maxGone + 100 {
			h.put(went(n, now), now)
		}
		if len(h.gone) > most || len(h.gone) < most*9/10 || h.order.Len() != len(h.gone) {
			t.Errorf("limit %d: %d are remembered, want %d", limit, len(h.gone), most)
		}
		if last := label(fmt.Sprintf("id-%05d", maxGone+99)); h.gone[last] == nil {
			t.Error("the last one that went is not among them")
		}
		if h.put(went(-1, now.Add(time.Minute)), now.Add(time.Minute)); h.take("id--0001", now.Add(historySpan)) == nil {
			t.Error("what went nine minutes ago is forgotten")
		}
		if n := len(h.gone); n != 0 {
			t.Errorf("%d that went ten minutes ago are remembered", n)
		}
		if n := h.memory.Bytes(); n != 0 {
			t.Errorf("%d bytes are held for nothing", n)
		}
	}
}

// TestWindow: counts leave it after ten minutes, and a clock that is set back does no harm.
func TestWindow(t *testing.T) {
	var w window
	start := time.Unix(1e9, 0).Truncate(time.Minute)
	for n := range 20 {
		w.add(start.Add(time.Duration(n) * time.Minute))
	}
	w.add(start)
	for after, want := range map[time.Duration]int{-time.Hour: 11, 19 * time.Minute: 11, 20 * time.Minute: 10, 28 * time.Minute: 2, 29 * time.Minute: 0, 1e6 * time.Hour: 0} {
		if got := w.sum(start.Add(after)); got != want {
			t.Errorf("after %v: %d, want %d", after, got, want)
		}
	}
}
