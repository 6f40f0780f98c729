package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// A departure is a phase in which a viewer goes away.
type departure struct {
	name    string
	request string
	// target begins the answer to a request. Nil: there is none.
	target func(c net.Conn)
	// viewer does what comes before it leaves.
	viewer func(t *testing.T, c net.Conn)
}

var departures = []departure{
	{name: "before the answer", request: "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n"},
	{name: "before the answer, body sent", request: "POST /a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"},
	{
		name: "in the download", request: "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n",
		target: func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
			go func() { // until the connection breaks
				for p := make([]byte, 32<<10); ; {
					if _, err := c.Write(p); err != nil {
						return
					}
				}
			}()
		},
		viewer: func(t *testing.T, c net.Conn) { readSome(t, c) },
	},
	{
		name: "in a quiet event stream", request: "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n",
		target: func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n")
		},
		viewer: func(t *testing.T, c net.Conn) { readSome(t, c) },
	},
	{
		name: "in the upload", request: "POST /a/ HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	},
	{
		name: "in an idle upgrade", request: "GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
		target: func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n")
		},
		viewer: func(t *testing.T, c net.Conn) { readSome(t, c) },
	},
}

func readSome(t *testing.T, c net.Conn) {
	t.Helper()
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 ") {
		t.Errorf("the viewer got %q, %v", line, err)
	}
}

// departTarget is a target that tells when a connection of it ends.
type departTarget struct {
	ln      net.Listener
	arrived chan struct{} // a request's head has come, and what d.target does is done
	ended   chan struct{} // its connection has ended

	mu sync.Mutex
	d  departure
}

func newDepartTarget(t *testing.T) *departTarget {
	dt := &departTarget{arrived: make(chan struct{}), ended: make(chan struct{})}
	dt.ln = tunneltest.ServeConns(t, dt.serve)
	return dt
}

func (dt *departTarget) serve(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return // an idle connection
		}
		if line == "\r\n" {
			break
		}
	}
	dt.mu.Lock()
	d := dt.d
	dt.mu.Unlock()
	if d.target != nil {
		d.target(c)
	}
	dt.arrived <- struct{}{}
	io.Copy(io.Discard, br)
	dt.ended <- struct{}{}
}

// depart makes one request as d has it and leaves. With reset, the connection
// is reset rather than closed.
func (dt *departTarget) depart(t *testing.T, addr string, d departure, reset bool) time.Duration {
	t.Helper()
	dt.mu.Lock()
	dt.d = d
	dt.mu.Unlock()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, d.request)
	<-dt.arrived
	if d.viewer != nil {
		d.viewer(t, c)
	}
	if reset {
		c.(*net.TCPConn).SetLinger(0)
	}
	left := time.Now()
	c.Close()
	select {
	case <-dt.ended:
		return time.Since(left)
	case <-time.After(10 * time.Second):
		t.Fatal("the target's connection is still open")
		return 0
	}
}

// TestViewerDeparts: in whatever phase a viewer goes away, the target's
// connection is closed within a second, but where a busy machine is late now and
// then, and nothing is left behind.
func TestViewerDeparts(t *testing.T) {
	for _, form := range []string{"extended CONNECT", "fallback"} {
		t.Run(form, func(t *testing.T) {
			if form == "extended CONNECT" && !h2conn.ExtendedConnect {
				t.Skip("x/net/http2 of this build cannot send extended CONNECT: needs the tag http2legacy")
			}
			dt := newDepartTarget(t)
			s := tunneltest.NewService(t, server.Config{NoExtendedConnect: form == "fallback"})
			s.Proxy("a", dt.ln.Addr().String(), tunnelclient.ProxyOptions{})
			if s.TunnelAddr() != s.Addr {
				dt.depart(t, s.Addr, departures[0], false) // makes the link between the nodes, which stays
			}
			before := runtime.NumGoroutine()

			rounds := 20
			if os.Getenv("WST_LONG") != "" {
				rounds = 10000 / len(departures)
			}
			var longest time.Duration
			late := make(map[string][]time.Duration)
			for i := range rounds {
				for _, d := range departures {
					took := dt.depart(t, s.Addr, d, i%2 == 0)
					if took > time.Second {
						name := fmt.Sprintf("%s (reset %v)", d.name, i%2 == 0)
						late[name] = append(late[name], took)
					}
					longest = max(longest, took)
				}
			}
			for name, took := range late {
				if len(took) > rounds/10 {
					t.Errorf("%s: the target's connection ended after %v", name, took)
				}
			}
			t.Logf("%d departures, the longest took %v", rounds*len(departures), longest)

			for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
				inFlight := 0
				for info := range s.Tunnels() {
					inFlight += info.InFlight
				}
				if n := runtime.NumGoroutine(); inFlight == 0 && n <= before+5 {
					break
				} else if time.Now().After(deadline) {
					t.Fatalf("%d requests in flight, %d goroutines, at first %d", inFlight, n, before)
				}
			}
		})
	}
}
