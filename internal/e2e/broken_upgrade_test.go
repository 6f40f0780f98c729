package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// ending says how a connection ended for its reader.
func ending(conn net.Conn, r io.Reader) string {
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := io.Copy(io.Discard, r)
	var ne net.Error
	switch {
	case err == nil:
		return "ended"
	case errors.As(err, &ne) && ne.Timeout():
		return "hung"
	}
	return "broke"
}

func breakOff(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// TestBrokenUpgrade: where one side of an upgraded connection breaks the other
// sees that, and no end: half a stream must not look like a whole one. Where
// one side ends properly, so does the other.
func TestBrokenUpgrade(t *testing.T) {
	type end struct{ target, viewer string }
	for _, tc := range []struct {
		name   string
		target func(conn *net.TCPConn, br *bufio.Reader) string
		viewer func(conn *net.TCPConn, br *bufio.Reader) string
		cut    bool // the tunnel breaks
		want   end
	}{
		{"the target breaks",
			func(conn *net.TCPConn, br *bufio.Reader) string { br.ReadByte(); breakOff(conn); return "" },
			func(conn *net.TCPConn, br *bufio.Reader) string { io.WriteString(conn, "x"); return ending(conn, br) },
			false, end{"", "broke"}},
		{"the viewer breaks",
			func(conn *net.TCPConn, br *bufio.Reader) string { io.WriteString(conn, "x"); return ending(conn, br) },
			func(conn *net.TCPConn, br *bufio.Reader) string { br.ReadByte(); breakOff(conn); return "" },
			false, end{"broke", ""}},
		{"the target ends",
			func(conn *net.TCPConn, br *bufio.Reader) string { br.ReadByte(); conn.Close(); return "" },
			func(conn *net.TCPConn, br *bufio.Reader) string { io.WriteString(conn, "x"); return ending(conn, br) },
			false, end{"", "ended"}},
		{"the viewer ends",
			func(conn *net.TCPConn, br *bufio.Reader) string { io.WriteString(conn, "x"); return ending(conn, br) },
			func(conn *net.TCPConn, br *bufio.Reader) string { br.ReadByte(); conn.Close(); return "" },
			false, end{"ended", ""}},
		{"the tunnel breaks",
			func(conn *net.TCPConn, br *bufio.Reader) string { io.WriteString(conn, "x"); return ending(conn, br) },
			func(conn *net.TCPConn, br *bufio.Reader) string { br.ReadByte(); return ending(conn, br) },
			true, end{"broke", "broke"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			target, served := upgradingTarget(t, tc.target)
			if !tc.cut {
				conn, br := upgradeRaw(t, target, "/")
				got := end{viewer: tc.viewer(conn, br)}
				if got.target = <-served; got != tc.want {
					t.Errorf("directly: %+v, want %+v", got, tc.want)
				}
			}
			for name, fallback := range map[string]bool{"fallback": true, "extended CONNECT": false} {
				t.Run(name, func(t *testing.T) {
					s := tunneltest.NewService(t, server.Config{NoExtendedConnect: fallback})
					s.Proxy("a", target, tunnelclient.ProxyOptions{})
					conn, br := upgradeRaw(t, s.Addr, "/a/")
					seen := make(chan string, 1)
					if tc.cut {
						br.Peek(1)
						s.CutTunnels()
					}
					go func() { seen <- tc.viewer(conn, br) }()
					got := end{viewer: <-seen}
					if got.target = <-served; got != tc.want {
						t.Errorf("tunnelled: %+v, want %+v", got, tc.want)
					}
				})
			}
		})
	}
}

// TestBrokenUpgradeHTTP2 is the same for a viewer over HTTP/2.
func TestBrokenUpgradeHTTP2(t *testing.T) {
	if !h2conn.ExtendedConnect {
		t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
	}
	open := func(t *testing.T, target string) (*io.PipeWriter, *http.Response, *http2.ClientConn) {
		s := tunneltest.NewService(t, server.Config{})
		s.Proxy("a", target, tunnelclient.ProxyOptions{})
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		cc, err := (&http2.Transport{AllowHTTP: true}).NewClientConn(conn)
		if err != nil {
			t.Fatal(err)
		}
		pr, pw := io.Pipe()
		req, _ := http.NewRequestWithContext(t.Context(), "CONNECT", s.URL+"/a/", pr)
		req.Header = http.Header{":protocol": {"x"}}
		resp, err := cc.RoundTrip(req)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		return pw, resp, cc
	}
	t.Run("the target breaks", func(t *testing.T) {
		target, _ := upgradingTarget(t, func(conn *net.TCPConn, br *bufio.Reader) string { br.ReadByte(); breakOff(conn); return "" })
		pw, resp, _ := open(t, target)
		io.WriteString(pw, "x")
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("the viewer read %q to a clean end", b)
		}
	})
	t.Run("the viewer breaks", func(t *testing.T) {
		target, served := upgradingTarget(t, func(conn *net.TCPConn, br *bufio.Reader) string {
			io.WriteString(conn, "x")
			return ending(conn, br)
		})
		pw, resp, _ := open(t, target)
		resp.Body.Read(make([]byte, 1))
		pw.CloseWithError(errors.New("on purpose")) // RST_STREAM
		if got := <-served; got != "broke" {
			t.Errorf("for the target it %s", got)
		}
		resp.Body.Close()
	})
}
