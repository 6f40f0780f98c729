package main

import (
	"testing"

	"github.com/websocktunnel/websocktunnel/server"
)

// What a variable is said to be, live or not, is what the server makes of it.
func TestLiveVariables(t *testing.T) {
	values := map[string]string{
		"URL_PREFIX": "http://other.example", "VIEWER_DOMAIN": "t.example", "PATH_ISOLATION": "off", "H2C": "off", "MEMORY_LIMIT": "1GiB",
		"STARTUP_WAIT": "7s", "IDLE_TIMEOUT": "7s",
		"TRUSTED_PROXIES": "192.0.2.1", "TASKCLUSTER_PROXY_SECRET_B": "another-secret-0123456789abcdef012", "AUDIENCE": "x", "TOKEN_EXPIRY": "ignore",
		"DRAIN_TIMEOUT": "7s", "DRAIN_DELAY": "7s", "STALL_TIMEOUT": "7s", "RESPONSE_HEADER_TIMEOUT": "7s", "PING_INTERVAL": "7s", "PING_TIMEOUT": "7s",
		"MAX_STREAMS": "7", "MAX_CONNECTIONS": "700", "MAX_CONNECTIONS_PER_ADDRESS": "7",
	}
	read := func(edits ...string) config {
		c, err := configOf(false, edits...)
		if err != nil {
			t.Fatal(err)
		}
		c.server.PublicURL = c.publicURL(80)
		return c
	}
	for _, v := range variables {
		value, ok := values[v.name]
		if !ok {
			continue
		}
		srv, err := server.New(read().server)
		if err != nil {
			t.Fatal(err)
		}
		restart, err := srv.Reconfigure(read(v.name, value).server)
		if err != nil || (restart == nil) != v.live {
			t.Errorf("%s is live: %v, but %q need a restart, %v", v.name, v.live, restart, err)
		}
		srv.Close()
	}
}
