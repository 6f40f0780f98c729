package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestProtocolAtEachHop: the record of a request says what was spoken at each hop. The
// viewer gets nothing of the header by which the tunnel client tells it, and no target can
// say it in the client's place.
func TestProtocolAtEachHop(t *testing.T) {
	const forged = wire.HeaderTargetProto + ": HTTP/3.0\r\n"
	raw := func(answer string) string {
		return tunneltest.ServeConns(t, func(c net.Conn) {
			br := bufio.NewReader(c)
			if r, err := http.ReadRequest(br); err == nil {
				if r.Header.Get(wire.HeaderTargetProto) != "" {
					t.Error("the target gets the header from a viewer")
				}
				io.WriteString(c, answer)
			}
		}).Addr().String()
	}
	ln := tunneltest.Listen(t)
	hs := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(wire.HeaderTargetProto, "HTTP/1.0")
		w.WriteHeader(http.StatusNoContent)
	}), Protocols: new(http.Protocols)}
	hs.Protocols.SetUnencryptedHTTP2(true)
	go hs.Serve(ln)
	t.Cleanup(func() { hs.Close() })

	const (
		plain    = "GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + forged + "\r\n"
		upgrade  = "GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
		switches = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n" + forged + "\r\n"
	)
	handler := func(proto string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header()[wire.HeaderTargetProto] = strings.Split(proto, ",")
		})
	}
	type hops struct{ viewer, tunnel, target string }
	for _, tc := range []struct {
		name, request string
		target        any // an address, or a handler
		extended      bool
		want          hops
	}{
		{"HTTP/1.1", plain, raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + forged + "\r\n"), false, hops{"HTTP/1.1", "HTTP/2.0", "HTTP/1.1"}},
		{"HTTP/1.0", "GET /a/ HTTP/1.0\r\nHost: h\r\n\r\n", raw("HTTP/1.0 200 OK\r\n" + forged + "\r\n"), false, hops{"HTTP/1.0", "HTTP/2.0", "HTTP/1.0"}},
		{"HTTP/2", plain, "h2c://" + ln.Addr().String(), false, hops{"HTTP/1.1", "HTTP/2.0", "HTTP/2.0"}},
		{"bad answer", plain, raw("HTTP/1.1 9 x\r\n\r\n"), false, hops{"HTTP/1.1", "HTTP/2.0", "HTTP/1.1"}},
		{"no target", plain, "127.0.0.1:1", false, hops{"HTTP/1.1", "HTTP/2.0", ""}},
		{"fallback", upgrade, raw(switches), false, hops{"HTTP/1.1", "fallback", "HTTP/1.1"}},
		{"extended CONNECT", upgrade, raw(switches), true, hops{"HTTP/1.1", "extended-connect", "HTTP/1.1"}},
		{"refused upgrade", upgrade, raw("HTTP/1.1 403 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), true, hops{"HTTP/1.1", "extended-connect", "HTTP/1.1"}},
		{"handler", plain, handler("HTTP/1.1"), false, hops{"HTTP/1.1", "HTTP/2.0", "HTTP/1.1"}},
		{"odd handler", plain, handler("HTTP/9\" x"), false, hops{"HTTP/1.1", "HTTP/2.0", ""}},
		{"doubtful handler", plain, handler("HTTP/1.1,HTTP/2.0"), false, hops{"HTTP/1.1", "HTTP/2.0", ""}},
		{"old tunnel client", plain, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), false, hops{"HTTP/1.1", "HTTP/2.0", ""}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.extended && !h2conn.ExtendedConnect {
				t.Skip("x/net/http2 of this build cannot send extended CONNECT: needs the tag http2legacy")
			}
			if tc.want.tunnel == "fallback" {
				tunneltest.SingleNode(t, "upgrades go to another node by extended CONNECT")
			}
			done := make(chan *server.RequestInfo, 1)
			s := tunneltest.NewService(t, server.Config{NoExtendedConnect: !tc.extended, RequestDone: func(i *server.RequestInfo) { done <- i }})
			if h, ok := tc.target.(http.Handler); ok {
				s.Client("a", h, tunnelclient.Config{})
			} else {
				s.Proxy("a", tc.target.(string), tunnelclient.ProxyOptions{})
			}
			c := dialRaw(t, s.Addr)
			io.WriteString(c, tc.request)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			if h := resp.Header[wire.HeaderTargetProto]; h != nil {
				t.Errorf("the viewer got %q", h)
			}
			c.Close()
			i := <-done
			if got := (hops{i.Proto, i.TunnelProto, i.TargetProto}); got != tc.want {
				t.Errorf("%+v, want %+v; the viewer got %s", got, tc.want, resp.Status)
			}
		})
	}
}

// TestLargestHeader: what the tunnel client says to the service takes nothing of what a
// target may send.
func TestLargestHeader(t *testing.T) {
	for name, fields := range map[string]string{
		"fields": strings.Repeat("X: y\r\n", 999),
		"bytes":  strings.Repeat("X: "+strings.Repeat("y", 10_200-33)+"\r\n", 20) + "X: " + strings.Repeat("z", 200<<10-20*10_200-33-47) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := tunneltest.NewService(t, server.Config{})
			s.Proxy("a", tunneltest.ServeConns(t, func(c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"+fields+"\r\n")
				}
			}).Addr().String(), tunnelclient.ProxyOptions{})
			c := dialRaw(t, s.Addr)
			io.WriteString(c, "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%+v, %v", resp, err)
			}
		})
	}
}
