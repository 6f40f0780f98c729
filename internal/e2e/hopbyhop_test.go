package e2e

import (
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestHopByHop: what is about one connection goes no further, in either
// direction, nor does what only the service and its clients tell each other.
func TestHopByHop(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	tgt := newRawTarget(t, (*rawTarget).serveHTTP1)
	s.Proxy("id", tgt.addr(), tunnelclient.ProxyOptions{})
	const internal = "X-Websocktunnel-Id: i\r\nX-Websocktunnel-Upgrade: i\r\nX-Websocktunnel-Upgrade-Body: 5\r\nX-Websocktunnel-Expect: 100-continue\r\n" +
		"X-Websocktunnel-Error: dns_error\r\nX-Websocktunnel-Anything: i\r\nx_websocktunnel_upgrade: i\r\n"
	for _, tc := range []struct{ name, request, answer string }{
		{"named in Connection", "Connection: X-Drop, x-drop-2\r\nX-Drop: 1\r\nX-Drop-2: 1\r\n", "Connection: x-drop ,X-Drop-2\r\nX-Drop: 1\r\nX-Drop-2: 1\r\n"},
		{"named in several", "Connection: keep-alive\r\nConnection: X-Drop\r\nX-Drop: 1\r\n", "Connection: keep-alive\r\nConnection: X-Drop\r\nX-Drop: 1\r\n"},
		{"Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"},
		{"Proxy-Connection", "Proxy-Connection: keep-alive\r\n", "Proxy-Connection: keep-alive\r\n"},
		{"for a proxy", "Proxy-Authorization: Basic dTpw\r\nProxy-Authenticate: Basic\r\n", "Proxy-Authenticate: Basic\r\n"},
		{"TE", "TE: gzip\r\n", "TE: gzip\r\n"},
		{"Upgrade", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n", "Connection: Upgrade\r\nUpgrade: h2c\r\n"},
		{"private", internal, strings.Replace(internal, "X-Websocktunnel-Error: dns_error\r\n", "", 1)},
		{"a claim of the client's", "", "X-Websocktunnel-Error: dns_error\r\n"},
		{"spoofed", "X-Real-IP: 192.0.2.9\r\nTrue-Client-IP: 192.0.2.9\r\nX-Forwarded-Port: 9\r\nX_Forwarded_For: 192.0.2.9\r\nX_Real_IP: 192.0.2.9\r\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			seen, got := tgt.observe(t, "HTTP/1.1 200 OK\r\nX-Kept: 1\r\n"+tc.answer+"Content-Length: 2\r\n\r\nok", func() []message {
				return askHTTP1(t, s.Addr, "GET /id/ HTTP/1.1\r\nHost: h\r\nX-Kept: 1\r\n"+tc.request+"\r\n")
			})
			seen.drop(serviceAdds...)
			if all := strings.Join(seen.headers, "\n"); all != "host: h\nx-kept: 1" {
				t.Errorf("the target saw\n%s", all)
			}
			last := got[len(got)-1]
			last.drop("x_websocktunnel_upgrade") // means nothing to viewers
			if all := strings.Join(last.headers, "\n"); all != "content-length: 2\nx-kept: 1" {
				t.Errorf("the viewer got\n%s", all)
			}
		})
	}
}
