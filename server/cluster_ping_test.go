package server

import (
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestPingsAreTold: a node tells its clients how often to ping. A service that is alone
// says nothing.
func TestPingsAreTold(t *testing.T) {
	told := func(s *testService) string {
		t.Helper()
		c, resp, err := s.dial("a", mint(t, "a"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.conn.Close()
		return resp.Header.Get(wire.HeaderPing)
	}
	if got := told(newService(t, Config{PingInterval: 5 * time.Second, PingTimeout: 5 * time.Second})); got != "" {
		t.Errorf("a service alone says %q", got)
	}
	s := newNodeService(t, Config{}, new(cluster.Memory))
	if got := told(s); got != "interval=5, timeout=5" {
		t.Errorf("a node says %q", got)
	}
	for _, tt := range []struct {
		interval, timeout time.Duration
		want              string
	}{
		{7 * time.Second, 0, "interval=7, timeout=5"},
		{-1, 0, ""},
		{0, 2 * time.Minute, ""},
	} {
		cfg := s.cfg.Config
		cfg.PingInterval, cfg.PingTimeout = tt.interval, tt.timeout
		if _, err := s.Reconfigure(cfg); err != nil {
			t.Fatal(err)
		}
		if got := told(s); got != tt.want {
			t.Errorf("with %v and %v a node says %q, want %q", tt.interval, tt.timeout, got, tt.want)
		}
	}
}
