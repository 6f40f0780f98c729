package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestHalfClose: each end of an upgraded connection ends its own direction, in
// either order, directly and through a tunnel.
func TestHalfClose(t *testing.T) {
	const ask, last = "a question", "an answer"
	for _, tc := range []struct {
		name string
		// serve is the target's side after the 101, view the viewer's.
		serve, view func(conn *net.TCPConn, br *bufio.Reader) string
	}{
		{"the viewer first",
			func(conn *net.TCPConn, br *bufio.Reader) string {
				b, err := io.ReadAll(br)
				io.WriteString(conn, last)
				return fmt.Sprintf("%s %v", b, err)
			},
			func(conn *net.TCPConn, br *bufio.Reader) string {
				io.WriteString(conn, ask)
				conn.CloseWrite()
				b, err := io.ReadAll(br)
				return fmt.Sprintf("%s %v", b, err)
			},
		},
		{"the target first",
			func(conn *net.TCPConn, br *bufio.Reader) string {
				io.WriteString(conn, last)
				conn.CloseWrite()
				b, err := io.ReadAll(br)
				return fmt.Sprintf("%s %v", b, err)
			},
			func(conn *net.TCPConn, br *bufio.Reader) string {
				b, err := io.ReadAll(br)
				io.WriteString(conn, ask)
				conn.CloseWrite()
				return fmt.Sprintf("%s %v", b, err)
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target, served := upgradingTarget(t, tc.serve)
			exchange := func(t *testing.T, addr, path string) (view, serve string) {
				conn, br := upgradeRaw(t, addr, path)
				view = tc.view(conn, br)
				return view, <-served
			}
			for name, fallback := range map[string]bool{"fallback": true, "extended CONNECT": false} {
				t.Run(name, func(t *testing.T) {
					s := tunneltest.NewService(t, server.Config{NoExtendedConnect: fallback})
					s.Proxy("a", target, tunnelclient.ProxyOptions{})
					for _, where := range []struct{ name, addr, path string }{{"direct", target, "/"}, {"tunnelled", s.Addr, "/a/"}} {
						view, serve := exchange(t, where.addr, where.path)
						if want := last + " <nil>"; view != want {
							t.Errorf("%s: the viewer saw %q, want %q", where.name, view, want)
						}
						if want := ask + " <nil>"; serve != want {
							t.Errorf("%s: the target saw %q, want %q", where.name, serve, want)
						}
					}
				})
			}
		})
	}
}

// upgradingTarget accepts every upgrade with a 101, runs serve on the
// connection, and sends what that returns.
func upgradingTarget(t *testing.T, serve func(*net.TCPConn, *bufio.Reader) string) (addr string, served <-chan string) {
	t.Helper()
	ln := tunneltest.Listen(t)
	results := make(chan string, 1)
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				br := bufio.NewReader(conn)
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
				results <- serve(conn.(*net.TCPConn), br)
			}()
		}
	}()
	return ln.Addr().String(), results
}

// upgradeRaw makes an upgrade request on a bare connection.
func upgradeRaw(t *testing.T, addr, path string) (*net.TCPConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", path)
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	return conn.(*net.TCPConn), br
}
