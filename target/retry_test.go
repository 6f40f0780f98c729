package target_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// closingTarget answers the first request of each connection, and ends the
// connection at the second, which it notes, unanswered. From the time of broken
// on, it answers no request at all.
type closingTarget struct {
	addr  string
	reset bool

	mu     sync.Mutex
	broken bool
	seen   map[string]int // requests by path
	late   bool           // the first of the last path came on a new connection
}

func newClosingTarget(t *testing.T, reset bool) *closingTarget {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ct := &closingTarget{addr: ln.Addr().String(), reset: reset, seen: map[string]int{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { ct.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ct
}

func (ct *closingTarget) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for n := 0; ; n++ {
		req, err := http.ReadRequest(br)
		if err != nil {
			return // an idle connection that the proxy has closed
		}
		io.Copy(io.Discard, req.Body)
		ct.mu.Lock()
		ct.seen[req.URL.Path]++
		if ct.seen[req.URL.Path] == 1 {
			ct.late = n == 0
		}
		broken := ct.broken
		ct.mu.Unlock()
		if n > 0 || broken {
			if ct.reset {
				c.(*net.TCPConn).SetLinger(0)
			}
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
}

// set begins to count anew.
func (ct *closingTarget) set(broken bool) {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	clear(ct.seen)
	ct.broken = broken
}

// cameLate reports whether the last request met no idle connection.
func (ct *closingTarget) cameLate() bool {
	ct.mu.Lock()
	defer ct.mu.Unlock()
	return ct.late
}

// TestTargetRetry: a request that meets the end of an idle connection is made
// again where that is safe, once, and not where the target may have acted.
func TestTargetRetry(t *testing.T) {
	for _, reset := range []bool{false, true} {
		for _, tt := range []struct {
			name, method, body string
			broken             bool
			want, seen         int
		}{
			{"GET", "GET", "", false, 200, 2},
			{"HEAD", "HEAD", "", false, 200, 2},
			{"OPTIONS", "OPTIONS", "", false, 200, 2},
			{"GET with body", "GET", "body", false, 502, 1},
			{"POST", "POST", "", false, 502, 1},
			{"POST with body", "POST", "body", false, 502, 1},
			{"PUT with body", "PUT", "body", false, 502, 1},
			{"DELETE", "DELETE", "", false, 502, 1},
			{"POST with Idempotency-Key", "POST", "", false, 200, 2},
			{"GET without end", "GET", "", true, 502, 2}, // the new connection ends as well
		} {
			name := tt.name
			if reset {
				name += " and reset"
			}
			t.Run(name, func(t *testing.T) {
				ct := newClosingTarget(t, reset)
				ways(t, proxyTo(t, ct.addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
					v := viewer(t)
					do := func(method, path, body string) *http.Response {
						t.Helper()
						req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
						if err != nil {
							t.Fatal(err)
						}
						if strings.HasSuffix(tt.name, "Key") {
							req.Header.Set("Idempotency-Key", "1")
						}
						resp, err := v.Do(req)
						if err != nil {
							t.Fatal(err)
						}
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
						return resp
					}
					var resp *http.Response
					for n := 0; n == 0 || ct.cameLate(); n++ { // on a slow machine the connection was closed before
						if n == 20 {
							t.Fatal("no connection is kept")
						}
						ct.set(false)
						// Fails if it meets the connection that the run before left.
						for do("POST", "/first", "x").StatusCode != http.StatusOK {
						}
						ct.set(tt.broken)
						resp = do(tt.method, "/second", tt.body)
					}
					ct.mu.Lock()
					defer ct.mu.Unlock()
					if resp.StatusCode != tt.want || ct.seen["/second"] != tt.seen {
						t.Errorf("%s, and the target saw %d requests; want %d and %d", resp.Status, ct.seen["/second"], tt.want, tt.seen)
					}
					if kind := resp.Header.Get(wire.HeaderError); tt.want == 502 && kind != "connection_terminated" {
						t.Errorf("the error is %q", kind)
					}
				})
			})
		}
	}
}
