package main

import (
	"net"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/admin"
)

// The address that other nodes reach is the one from which the store is reached. While
// its name does not resolve, as that of a container that is not running, it is the one
// that leads to the rest of the world.
func TestLocalAddress(t *testing.T) {
	if got, err := localAddress([]string{"127.0.0.1:6379"}); got != "127.0.0.1" || err != nil {
		t.Errorf("for a store on this machine: %q, %v", got, err)
	}
	got, err := localAddress([]string{"store.invalid:6379"})
	if err == nil && (net.ParseIP(got) == nil || admin.IsLoopback(got)) {
		t.Errorf("for a store without an address: %q", got)
	}
	if err != nil && !strings.Contains(err.Error(), "store.invalid") { // this machine has no network
		t.Errorf("for a store without an address: %v", err)
	}
}

func TestAdvertise(t *testing.T) {
	for _, tt := range []struct {
		listen, advertise string
		port              int // that is listened on
		want              string
	}{
		{"", "10.0.0.5:1234", 8444, "10.0.0.5:1234"},
		{"", "10.0.0.5", 8444, "10.0.0.5:8444"},
		{":9000", "node-1.example", 9000, "node-1.example:9000"},
		{":9000", "::1", 9000, "[::1]:9000"},
		{":9000", "[2001:db8::5]", 9000, "[2001:db8::5]:9000"},
		{":9000", "[2001:db8::5]:9001", 9000, "[2001:db8::5]:9001"},
		{"10.0.0.5:9000", "", 9000, "10.0.0.5:9000"},
		{"127.0.0.1:0", "127.0.0.1", 40000, "127.0.0.1:40000"},
	} {
		c, err := configOf(false, "CLUSTER_REDIS", "redis://192.0.2.1", "CLUSTER_SECRET_A", strings.Repeat("n", 16), "CLUSTER_NODE", "a", "CLUSTER_LISTEN", tt.listen, "CLUSTER_ADVERTISE", tt.advertise)
		if got := c.cluster.advertise(tt.port); got != tt.want || err != nil {
			t.Errorf("listening on %q, advertising %q: %q, want %q, %v", tt.listen, tt.advertise, got, tt.want, err)
		}
	}
}
