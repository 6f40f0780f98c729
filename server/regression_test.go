package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// dialRaw sends request as it stands and returns the open connection.
func (s *testService) dialRaw(request string) (net.Conn, *bufio.Reader) {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, request)
	return c, bufio.NewReader(c)
}

// TestStallTimerNeverFiresLate: x/net's ResponseWriter is gone after the handler;
// a viewer that opened its window at the right moment ended the process.
func TestStallTimerNeverFiresLate(t *testing.T) {
	t.Parallel()
	for range 2000 {
		over := false
		var d stallTimer
		d.init(nil, 50*time.Microsecond, func() {
			if over {
				t.Error("it fired after stop")
			}
		})
		d.start()
		<-time.After(50 * time.Microsecond)
		d.stop()
		over = true
	}
}

// TestUpgradeList: the target chooses from a list, and one that chooses what
// was not offered keeps no slot.
func TestUpgradeList(t *testing.T) {
	s := newService(t, Config{MaxStreams: 2})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nbye", r.URL.Path[1:])
	})))
	for range 5 {
		if got := s.raw("GET /a/tcp HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp, x\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 101 ") || !strings.HasSuffix(got, "bye") {
			t.Errorf("a protocol of the list: %q", got)
		}
		if got := s.raw("GET /a/other HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp, x\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
			t.Errorf("another protocol: %q", got)
		}
	}
	waitFor(t, func() bool {
		for info := range s.Tunnels() {
			return info.InFlight == 0
		}
		return false
	})
}

// TestCloseSaysDraining: it is the service that ends, not the client's fault.
func TestCloseSaysDraining(t *testing.T) {
	s := newService(t, Config{})
	c := s.connect("a", echoHandler)
	s.waitActive(c)
	s.Close()
	<-c.conn.Done()
	if err := c.conn.Err(); err == nil || !strings.Contains(err.Error(), "4002") {
		t.Errorf("the tunnel client got %v", err)
	}
}

// TestUnreadBodyEndsConnection: after an answer that was over before the body
// of its request, whatever comes on the connection belongs to that body. (With
// full duplex on, net/http takes it for the next request, or panics.)
func TestUnreadBodyEndsConnection(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, "early")
	})))
	const smuggled = "GET /__version__ HTTP/1.1\r\nHost: h\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled))
	for _, tc := range []struct {
		name, target, head, rest string
		want                     int
	}{
		{"no tunnel", "/nope/", length, smuggled, 404},
		{"no tunnel, chunked", "/nope/", "Transfer-Encoding: chunked\r\n\r\n", smuggled, 404},
		{"no tunnel, all at once", "/nope/", length + smuggled, "", 404},
		{"nothing here", "/", length, smuggled, 404},
		{"early answer", "/a/", length, smuggled, 401},
		{"early answer, some of the body", "/a/", length + smuggled[:5], smuggled[5:], 401},
		{"early answer, chunked", "/a/", "Transfer-Encoding: chunked\r\n\r\n", smuggled, 401},
		{"early answer, a chunk", "/a/", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", smuggled, 401},
		{"early answer, large", "/a/", "Content-Length: 1000000\r\n\r\n", strings.Repeat(smuggled, 5000), 401},
	} {
		for _, late := range []time.Duration{0, 20 * time.Millisecond, 400 * time.Millisecond} {
			t.Run(fmt.Sprintf("%s after %v", tc.name, late), func(t *testing.T) {
				t.Parallel()
				c, br := s.dialRaw("POST " + tc.target + " HTTP/1.1\r\nHost: h\r\n" + tc.head)
				defer c.Close()
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					t.Errorf("the answer broke off: %v", err)
				}
				if resp.StatusCode != tc.want {
					t.Errorf("got %d, want %d", resp.StatusCode, tc.want)
				}
				<-time.After(late)
				io.WriteString(c, tc.rest) // may fail
				io.WriteString(c, "GET /__heartbeat__ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				if !resp.Close {
					if tc.rest == "" || late == 0 || tc.target == "/" {
						return // the body was read in time, which is fine
					}
					t.Error("the answer does not say that the connection ends")
				}
				if b, _ := io.ReadAll(br); len(b) > 0 {
					t.Errorf("an answer to what was the rest of the body: %q", b)
				}
			})
		}
	}
}

// TestFailureDuringUpload: an HTTP/1.1 viewer that is still sending its request
// learns why that has failed.
func TestFailureDuringUpload(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(wire.HeaderError, "connection_refused")
		w.WriteHeader(http.StatusBadGateway)
	})))
	for _, head := range []string{
		"Content-Length: 10\r\n\r\n",
		"Content-Length: 10\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n",
	} {
		for range 5 {
			c, br := s.dialRaw("POST /a/ HTTP/1.1\r\nHost: h\r\n" + head)
			resp, err := http.ReadResponse(br, nil)
			for err == nil && resp.StatusCode == http.StatusContinue {
				resp, err = http.ReadResponse(br, nil)
			}
			if err != nil {
				t.Errorf("%q: %v", head, err)
			} else if b, err := io.ReadAll(resp.Body); resp.StatusCode != 502 || err != nil || len(b) == 0 ||
				!strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel-client; error=connection_refused; details="WT-TARGET-REFUSED`) {
				t.Errorf("%q: got %d %q %v, %v", head, resp.StatusCode, b, resp.Header, err)
			}
			c.Close()
		}
	}
}

// TestAnswerEndsBeforeRequest: the viewer gets all of an early answer although
// it has not ended its request, and withheld bodies hold back nothing.
func TestAnswerEndsBeforeRequest(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(413)
		io.WriteString(w, "enough")
		w.(http.Flusher).Flush()
	})))
	for path, status := range map[string]int{"/a/": 413, "/nope/": 404, "/": 404} {
		for _, body := range []string{"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "Content-Length: 5\r\n\r\n"} {
			start := time.Now()
			_, br := s.dialRaw("POST " + path + " HTTP/1.1\r\nHost: h\r\n" + body)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != status {
				t.Errorf("%s: %d, %v", path, resp.StatusCode, err)
			}
			if d := time.Since(start); d > 3*time.Second {
				t.Errorf("%s: the answer took %v", path, d)
			}
		}
	}
}

// TestStalledLastPiece: also the last bytes of an upload are timed.
func TestStalledLastPiece(t *testing.T) {
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond})
	c, _, err := s.dial("a", mint(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	go h2conn.Serve(context.Background(), c.conn, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // reads nothing
	}), h2conn.ServeConfig{Config: h2conn.Config{StreamWindow: 64 << 10}})
	t.Cleanup(func() { c.conn.Close() })
	s.waitActive(c)
	n := 64<<10 + 100
	_, br := s.dialRaw(fmt.Sprintf("POST /a/ HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("x", n)))
	if line, err := br.ReadString('\n'); err != nil || !strings.Contains(line, " 502 ") {
		t.Errorf("got %q, %v", line, err)
	}
}

// TestNoInterimToHTTP10: its viewers would take it for the answer.
func TestNoInterimToHTTP10(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(103)
		io.WriteString(w, "ok")
	})))
	if got := s.raw("GET /a/ HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 200 ") {
		t.Errorf("got %q", got)
	}
}

// TestWaiterMovesToNewSession: a request that waits for a slot of a session
// that is replaced goes to the new one.
func TestWaiterMovesToNewSession(t *testing.T) {
	s := newService(t, Config{MaxStreams: 1})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
		io.WriteString(w, "ok")
	})
	s.waitActive(s.connect("a", h))
	_, br := s.dialRaw("GET /a/slow HTTP/1.1\r\nHost: h\r\n\r\n")
	br.ReadString('\n')
	got := make(chan int, 1)
	go func() {
		resp, _ := s.get("/a/")
		got <- resp.StatusCode
	}()
	old, _ := s.registry.lookup(t.Context(), "a")
	waitFor(t, func() bool { return old.slots.waits() == 1 })
	s.connect("a", h)
	if status := <-got; status != 200 {
		t.Errorf("got %d", status)
	}
}

// TestStuckRegistrationHoldsUpNobody: viewers wait for any session of the id.
func TestStuckRegistrationHoldsUpNobody(t *testing.T) {
	s := newService(t, Config{})
	stuck, _, err := s.dial("a", mint(t, "a")) // never answers the ping
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stuck.conn.Close() })
	got := make(chan int, 1)
	start := time.Now()
	go func() {
		resp, _ := s.get("/a/")
		got <- resp.StatusCode
	}()
	s.connect("a", echoHandler)
	if status := <-got; status != 200 || time.Since(start) > 4*time.Second {
		t.Errorf("got %d after %v", status, time.Since(start))
	}
}

// TestGoawayDoesNotProlongDrain: nor does anything else.
func TestGoawayDoesNotProlongDrain(t *testing.T) {
	t.Parallel()
	const drain = 3 * time.Second
	s := newService(t, Config{DrainTimeout: drain})
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	s.waitActive(c)
	_, br := s.dialRaw("GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n")
	br.ReadString('\n')
	start := time.Now()
	time.AfterFunc(drain*9/10, func() { c.conn.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode()) })
	s.Shutdown(context.Background())
	if d := time.Since(start); d > drain*9/5 { // a new drain timeout from the goaway on would be 19/10
		t.Errorf("Shutdown took %v", d)
	}
}

// TestShutdownIsBounded: a viewer that never ends its request holds up nothing.
func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{})
	c, br := s.dialRaw("POST /nobody/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nx")
	br.ReadString('\n')
	start := time.Now()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > lastBytes+5*time.Second {
		t.Errorf("Shutdown took %v", d)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Logf("the viewer's connection: %v", err)
	}
}

// TestViewersFaults: what is wrong with a request is not blamed on the tunnel.
func TestViewersFaults(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", echoHandler))
	for _, r := range []string{
		"POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n",
		"GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: \xe4\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
	} {
		if got := s.raw(r); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%.60q got %.60q", r, got)
		}
	}
}

// TestTooFewStreams: a client that admits no requests would make viewers hang.
func TestTooFewStreams(t *testing.T) {
	s := newService(t, Config{})
	c, _, err := s.dial("a", mint(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	err = h2conn.Serve(context.Background(), c.conn, echoHandler, h2conn.ServeConfig{MaxConcurrentStreams: 3})
	if err == nil || !strings.Contains(err.Error(), "4004") {
		t.Errorf("Serve returned %v", err)
	}
}

// TestHTTP2ViewersWebsocket: one that takes nothing is cut, and no private
// header reaches it.
func TestHTTP2ViewersWebsocket(t *testing.T) {
	if !h2conn.ExtendedConnect {
		t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
	}
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond})
	ended := make(chan struct{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			io.WriteString(w, "no")
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer close(ended)
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		for {
			if _, err := conn.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})))
	cc := s.http2Viewer()
	open := func(path string) *http.Response {
		pr, pw := io.Pipe()
		t.Cleanup(func() { pw.Close() })
		req, _ := http.NewRequestWithContext(t.Context(), "CONNECT", s.url+path, pr)
		req.Header[":protocol"] = []string{"websocket"}
		resp, err := cc.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	resp := open("/a/refuse")
	for k := range resp.Header {
		if strings.HasPrefix(k, wire.HeaderPrefix) {
			t.Errorf("private header %s at the viewer", k)
		}
	}
	open("/a/") // nobody reads
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		t.Error("the stream still stalls")
	}
}

// TestStalledUploadsOfOneViewer: they do not starve the next upload of the
// same HTTP/2 connection, which may be a load balancer's.
func TestStalledUploadsOfOneViewer(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })))
	s.waitActive(s.connect("b", echoHandler))
	cc := s.http2Viewer()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	full := make(chan struct{}, 40)
	for range 40 {
		body := &countingReader{left: 8 << 20, at: viewerStreamWindow, f: func() { full <- struct{}{} }}
		req, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/a/", struct{ io.Reader }{body})
		go func() {
			if resp, err := cc.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
		}()
	}
	for range 40 {
		<-full
	}
	req, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/b/", strings.NewReader("hello"))
	resp, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "hello" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

// countingReader calls f when at bytes have been read.
type countingReader struct {
	left, at int
	f        func()
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), r.left)
	r.left -= n
	if r.at > 0 {
		if r.at -= n; r.at <= 0 {
			r.f()
		}
	}
	return n, nil
}

// TestNoAnswerIsNone: what ends a request that has no answer yet does not make
// net/http write one with status 200.
func TestNoAnswerIsNone(t *testing.T) {
	for _, wrote := range []bool{false, true} {
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/a/", strings.NewReader("x"))
		x := newService(t, Config{}).newExchange(rec, r, parseRoute(r), &requestMemory{Holding: newMemory(0, trustedProxies{}).Hold(nil, nil, 0)})
		if wrote {
			x.w.WriteHeader(http.StatusOK)
		}
		x.endRequest()
		if rec.Flushed != wrote {
			t.Errorf("flushed: %v, with an answer: %v", rec.Flushed, wrote)
		}
	}
}

// TestUpgradeLines: what an Upgrade header offers in several lines reaches the
// target, but h2c, which is about this hop, does not.
func TestUpgradeLines(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Offered", strings.Join(r.Header["Upgrade"], "|"))
	}))
	for _, tc := range []struct{ lines, want string }{
		{"Upgrade: foo,bar\r\n", "foo,bar"},
		{"Upgrade: foo\r\nUpgrade: bar\r\n", "foo, bar"},
		{"Upgrade: foo, h2c\r\n", "foo"},
		{"Upgrade: H2C\r\nUpgrade: bar/1\r\n", "bar/1"},
		{"Upgrade: h2c, h2c\r\n", ""},
	} {
		got := s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, close\r\n" + tc.lines + "\r\n")
		if !strings.Contains(got, "\r\nX-Offered: "+tc.want+"\r\n") {
			t.Errorf("%q: want %q in %q", tc.lines, tc.want, got)
		}
	}
}
