package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestBrokenHop: where an answer, or an upgraded connection, breaks off, both ends say
// whose doing that was: the service in its record, and the tunnel client in its log if
// its target did it.
func TestBrokenHop(t *testing.T) {
	type breaker struct{ target, viewer func(c *net.TCPConn) }
	end := func(c *net.TCPConn) { c.Close() }
	stay := func(*net.TCPConn) {}
	pour := func(c *net.TCPConn) { io.Copy(c, zeros{}) }
	const (
		upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n!"
		sized   = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n!"
		chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n!\r\n"
	)
	for _, tc := range []struct {
		name     string
		answer   string
		breaks   breaker
		cut      bool // the tunnel breaks
		hop, why string
	}{
		{"the target falls short of its length", sized, breaker{end, stay}, false, "target", "WT-TARGET-BROKE"},
		{"the target resets an answer with a length", sized, breaker{breakOff2, stay}, false, "target", "WT-TARGET-BROKE"},
		{"the target ends without the last chunk", chunked, breaker{end, stay}, false, "target", "WT-TARGET-BROKE"},
		{"the target resets a chunked answer", chunked, breaker{breakOff2, stay}, false, "target", "WT-TARGET-BROKE"},
		{"the target breaks its chunks", chunked + "zz\r\n", breaker{stay, stay}, false, "target", "WT-TARGET-BROKE"},
		{"the target resets an upgraded connection", upgrade, breaker{breakOff2, stay}, false, "target", "WT-TARGET-BROKE"},
		{"the target resets an upgraded connection into which much is sent", upgrade, breaker{breakOff2, pour}, false, "target", "WT-TARGET-BROKE"},
		{"the viewer leaves", sized, breaker{stay, end}, false, "viewer", "WT-VIEWER-LEFT"},
		{"the viewer resets", chunked, breaker{stay, breakOff2}, false, "viewer", "WT-VIEWER-LEFT"},
		{"the viewer resets an upgraded connection", upgrade, breaker{stay, breakOff2}, false, "viewer", "WT-VIEWER-LEFT"},
		{"the tunnel breaks", sized, breaker{stay, stay}, true, "client", "WT-ANSWER-BROKE"},
		{"the tunnel breaks in a chunked answer", chunked, breaker{stay, stay}, true, "client", "WT-ANSWER-BROKE"},
		{"the tunnel breaks under an upgraded connection", upgrade, breaker{stay, stay}, true, "client", "WT-ANSWER-BROKE"},
	} {
		for form, fallback := range map[string]bool{"": true, ", extended CONNECT": false} {
			if form != "" && tc.answer != upgrade {
				continue
			}
			t.Run(tc.name+form, func(t *testing.T) {
				if tc.cut {
					tunneltest.SingleNode(t, "what breaks off at another node looks like the target's doing")
				}
				begin, over := make(chan struct{}), make(chan struct{})
				ln := tunneltest.ServeConns(t, func(c net.Conn) {
					if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
						return
					}
					io.WriteString(c, tc.answer)
					<-begin
					tc.breaks.target(c.(*net.TCPConn))
					<-over
				})
				t.Cleanup(func() { close(over) })
				var log tunneltest.Log
				done := make(chan *server.RequestInfo, 1)
				s := tunneltest.NewService(t, server.Config{NoExtendedConnect: fallback, RequestDone: func(i *server.RequestInfo) { done <- i }})
				s.Proxy("a", ln.Addr().String(), tunnelclient.ProxyOptions{Logger: zerolog.New(&log).Level(zerolog.WarnLevel)})
				c := dialRaw(t, s.Addr).(*net.TCPConn)
				head := "GET /a/ HTTP/1.1\r\nHost: h\r\n"
				if tc.answer == upgrade {
					head += "Connection: Upgrade\r\nUpgrade: x\r\n"
				}
				io.WriteString(c, head+"\r\n")
				br := bufio.NewReader(c)
				if _, err := br.ReadString('!'); err != nil {
					t.Fatal(err)
				}
				if tc.cut {
					s.CutTunnels()
				}
				close(begin)
				go io.Copy(io.Discard, br)
				tc.breaks.viewer(c)
				checkBroken(t, <-done, tc.hop, tc.why)
				checkLog(t, &log, tc.hop == "target")
			})
		}
	}
}

// TestBrokenHopOfHandlers is the same for targets that speak HTTP/2, and for handlers of
// Go code.
func TestBrokenHopOfHandlers(t *testing.T) {
	begun := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "!")
		http.NewResponseController(w).Flush()
	}
	handlers := map[string]http.HandlerFunc{
		"panics":                 func(w http.ResponseWriter, _ *http.Request) { begun(w); panic(http.ErrAbortHandler) },
		"falls short":            func(w http.ResponseWriter, _ *http.Request) { begun(w) },
		"panics before it began": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	}
	for name, h := range handlers {
		for _, kind := range []string{"handler", "HTTP/2 target"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				var log tunneltest.Log
				done := make(chan *server.RequestInfo, 1)
				s := tunneltest.NewService(t, server.Config{RequestDone: func(i *server.RequestInfo) { done <- i }})
				if kind == "handler" {
					s.Client("a", h, tunnelclient.Config{})
				} else {
					ln := tunneltest.Listen(t)
					hs := &http.Server{Handler: h, Protocols: new(http.Protocols)}
					hs.Protocols.SetUnencryptedHTTP2(true)
					go hs.Serve(ln)
					t.Cleanup(func() { hs.Close() })
					s.Proxy("a", "h2c://"+ln.Addr().String(), tunnelclient.ProxyOptions{Logger: zerolog.New(&log).Level(zerolog.WarnLevel)})
				}
				c := dialRaw(t, s.Addr)
				io.WriteString(c, "GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				b, _ := io.ReadAll(c)
				i := <-done
				if i.FailedHop != "target" || i.ErrorCode != "WT-TARGET-BROKE" {
					t.Errorf("%+v; got %q", i, b)
				}
				if kind != "handler" {
					checkLog(t, &log, true)
				}
			})
		}
	}
}

func breakOff2(c *net.TCPConn) { breakOff(c) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func checkBroken(t *testing.T, i *server.RequestInfo, hop, code string) {
	t.Helper()
	if i.FailedHop != hop || i.ErrorCode != code || !i.Broken {
		t.Errorf("failed at %q, %s (%s), broken %v; want %q, %s", i.FailedHop, i.ErrorCode, i.Error, i.Broken, hop, code)
	}
	if i.ID == "" {
		t.Error("no id")
	}
}

// checkLog waits for the tunnel client's line about the target that broke off, or
// checks that there is none.
func checkLog(t *testing.T, log *tunneltest.Log, want bool) {
	t.Helper()
	told := func() bool {
		return strings.Contains(log.String(), `"level":"warn","request_id":"`)
	}
	if want && !tunneltest.Poll(5*time.Second, told) || !want && told() {
		t.Errorf("want a line: %v; the log is %s", want, log.String())
	}
}
