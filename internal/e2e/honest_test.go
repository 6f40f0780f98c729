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

// TestHonestEnds: when the target, the tunnel client or the service dies in
// the middle of an answer, no viewer takes what it has for the whole.
func TestHonestEnds(t *testing.T) {
	answers := map[string]string{
		"chunked":       "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"with a length": "Content-Length: 10\r\n\r\nhello",
	}
	viewers := map[string]func(t *testing.T, addr string) (read func() (string, error)){
		"HTTP/1.1": func(t *testing.T, addr string) func() (string, error) { return rawViewer(t, addr, "HTTP/1.1") },
		"HTTP/1.0": func(t *testing.T, addr string) func() (string, error) { return rawViewer(t, addr, "HTTP/1.0") },
		"HTTP/2":   http2Viewer,
	}
	for _, dies := range []string{"target", "target by reset", "tunnel client", "service"} {
		for framing, head := range answers {
			for viewer, begin := range viewers {
				t.Run(dies+", "+framing+", "+viewer, func(t *testing.T) {
					ln := tunneltest.Listen(t)
					defer ln.Close()
					die, dead := make(chan struct{}), make(chan struct{})
					go func() {
						defer close(dead)
						c, err := ln.Accept()
						if err != nil {
							return
						}
						defer c.Close()
						br := bufio.NewReader(c)
						for line := ""; line != "\r\n"; {
							if line, err = br.ReadString('\n'); err != nil {
								return
							}
						}
						io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head)
						<-die
						if dies == "target by reset" {
							c.(*net.TCPConn).SetLinger(0)
						}
					}()
					s := tunneltest.NewService(t, server.Config{})
					c := s.Proxy("a", ln.Addr().String(), tunnelclient.ProxyOptions{})
					read := begin(t, s.Addr)
					switch dies {
					case "tunnel client":
						s.CutTunnels() // it would say goodbye if it could
					case "service":
						s.Server.Close()
					default:
						close(die)
					}
					if rest, err := read(); err == nil {
						t.Errorf("the rest, %q, looked complete", rest)
					}
					if !strings.HasPrefix(dies, "target") {
						close(die)
					}
					<-dead
					c.Stop()
				})
			}
		}
	}
}

// rawViewer asks for /a/ and returns, once the first bytes of the body are
// here, a function that reads the rest as a strict client does.
func rawViewer(t *testing.T, addr, proto string) func() (string, error) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET /a/ %s\r\nHost: h\r\n\r\n", proto)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return restOf(t, resp)
}

func http2Viewer(t *testing.T, addr string) func() (string, error) {
	t.Helper()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	resp, err := (&http.Client{Transport: tr}).Get("http://" + addr + "/a/")
	if err != nil {
		t.Fatal(err)
	}
	if resp.ProtoMajor != 2 {
		t.Errorf("the viewer speaks %s", resp.Proto)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return restOf(t, resp)
}

func restOf(t *testing.T, resp *http.Response) func() (string, error) {
	t.Helper()
	p := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, p); err != nil || string(p) != "hello" {
		t.Fatalf("the answer begins with %q, %v", p, err)
	}
	return func() (string, error) {
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
}
