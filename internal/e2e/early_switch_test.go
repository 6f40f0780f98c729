package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestEarlySwitch: a target that switches protocols before it has the whole
// request made two readers of one body, at both ends: the tunnel client crashed,
// and the service had the race. Its request fails, and nothing else does.
func TestEarlySwitch(t *testing.T) {
	target := func(c net.Conn) {
		defer c.Close()
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n")
		io.Copy(c, c)
	}
	s := tunneltest.NewService(t, server.Config{})
	s.Proxy("a", "http://"+tunneltest.ServeConns(t, target).Addr().String(), tunnelclient.ProxyOptions{})
	s.Target("b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "alive") }), tunnelclient.ProxyOptions{})
	s.WaitTunnel("a")
	session := sessionOf(s, "a")
	piece := strings.Repeat("x", 10_000)
	// Bodies without an end: no buffer takes them whole before the target answers.
	for name, body := range map[string]struct{ header, piece string }{
		"length":  {fmt.Sprintf("Content-Length: %d", 1<<40), piece},
		"chunked": {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)},
	} {
		for range 5 {
			c, err := net.Dial("tcp", s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(c, "GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: foo\r\n%s\r\n\r\n", body.header)
			sent := make(chan struct{})
			go func() { // until the service has had enough
				defer close(sent)
				for {
					if _, err := io.WriteString(c, body.piece); err != nil {
						return
					}
				}
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || resp.StatusCode != http.StatusBadGateway {
				t.Errorf("%s: got %v, %v; want 502", name, resp, err)
			}
			c.Close()
			<-sent
		}
	}
	resp, err := tunneltest.NewViewer(t).Get(s.URL + "/b/")
	if err != nil || tunneltest.ReadAll(t, resp) != "alive" {
		t.Errorf("the neighbour: %v, %v", resp, err)
	}
	if now := sessionOf(s, "a"); now != session {
		t.Error("the tunnel has another session")
	}
}
