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
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestUpgradeChoice: of what an Upgrade header offers, the viewer sees the
// choice as the target spells it.
func TestUpgradeChoice(t *testing.T) {
	for _, tt := range []struct{ asks, answer string }{
		{"foo/1", "foo/1"},
		{"foo/1, bar", "foo/1"},
		{"foo/1, bar", "bar"},
		{"FOO/1", "foo/1"},
		{"FOO/1,bar", "foo/1"},
		{"websocket", "WebSocket"},
	} {
		ln := tunneltest.ServeConns(t, func(c net.Conn) {
			br := bufio.NewReader(c)
			req, err := http.ReadRequest(br)
			if err != nil {
				return // unused
			}
			if got := req.Header.Get("Upgrade"); got != tt.asks {
				t.Errorf("the target is asked for %q, not for %q", got, tt.asks)
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tt.answer+"\r\n\r\n")
			io.Copy(c, br)
		})
		for name, fallback := range map[string]bool{"direct": false, "extended CONNECT": false, "fallback": true} {
			t.Run(tt.asks+" becomes "+tt.answer+", "+name, func(t *testing.T) {
				addr, path := ln.Addr().String(), "/"
				if name != "direct" {
					if !fallback && !h2conn.ExtendedConnect {
						t.Skip("needs the tag http2legacy")
					}
					s := tunneltest.NewService(t, server.Config{NoExtendedConnect: fallback})
					s.Proxy("a", addr, tunnelclient.ProxyOptions{})
					addr, path = s.Addr, "/a/"
				}
				c := dialRaw(t, addr)
				defer c.Close()
				io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "+tt.asks+
					"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nhello")
				br := bufio.NewReader(c)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.Header["Upgrade"]; resp.StatusCode != 101 || strings.Join(got, "|") != tt.answer {
					t.Fatalf("%s, Upgrade %q", resp.Status, got)
				}
				echo := make([]byte, 5)
				if _, err := io.ReadFull(br, echo); err != nil || string(echo) != "hello" {
					t.Errorf("echo %q, %v", echo, err)
				}
			})
		}
	}
}
