package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestTargetGoneInQuietUpload: a target ends its connection without an answer
// while the viewer's upload is open and nothing more of it comes. The viewer
// learns that without sending more, as it does directly.
func TestTargetGoneInQuietUpload(t *testing.T) {
	const head = "POST /a/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
	for _, end := range []string{"close", "reset"} {
		t.Run(end, func(t *testing.T) {
			target := tunneltest.ServeConns(t, func(c net.Conn) {
				br := bufio.NewReader(c)
				for { // all that there is, or a close would be a reset
					line, err := br.ReadString('\n')
					if err != nil || line == "abc\r\n" {
						break
					}
				}
				if end == "reset" {
					c.(*net.TCPConn).SetLinger(0)
				}
			}).Addr().String()
			s := tunneltest.NewService(t, server.Config{})
			s.Proxy("a", target, tunnelclient.ProxyOptions{})

			t.Run("direct", func(t *testing.T) {
				c := dialRaw(t, target)
				io.WriteString(c, head)
				if b, err := io.ReadAll(c); len(b) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("got %q, %v", b, err)
				}
			})
			t.Run("HTTP/1.1 viewer gets 502", func(t *testing.T) {
				c := dialRaw(t, s.Addr)
				io.WriteString(c, head)
				b, err := io.ReadAll(c)
				if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 502 ") || !strings.Contains(string(b), "error=connection_terminated") {
					t.Errorf("got %q, %v", b, err)
				}
			})
			t.Run("HTTP/2 viewer gets 502", func(t *testing.T) {
				f := dialHTTP2(t, s.Addr)
				if err := f.writeFields(1, requestPseudo("POST", "/a/", "h"), false); err != nil {
					t.Fatal(err)
				}
				if err := f.framer.WriteData(1, false, []byte("abc")); err != nil {
					t.Fatal(err)
				}
				_, all, err := f.read(1, "POST") // the stream may be reset behind the answer
				if len(all) == 0 {
					t.Fatalf("no answer: %v", err)
				}
				got := all[len(all)-1]
				const want = `websocktunnel-client; error=connection_terminated; details="WT-TARGET-BROKE`
				if status := got.header("proxy-status"); got.status() != "502" || len(status) != 1 || !strings.HasPrefix(status[0], want) {
					t.Errorf("got %q, %v; want 502, %q", got.lines(), err, want)
				}
			})
		})
	}
}
