package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// fromListener gives connections the address that their first line names: real
// sockets here all come from one.
type fromListener struct{ net.Listener }

func (l fromListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil || b[0] == '\n' {
			break
		}
		line = append(line, b[0])
	}
	return fromConn{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(string(line)), 4711))}, nil
}

type fromConn struct {
	net.Conn
	from net.Addr
}

func (c fromConn) RemoteAddr() net.Addr { return c.from }
func (c fromConn) NetConn() net.Conn    { return c.Conn }

// listenFrom has s accept connections that say where they come from, and
// returns what makes such connections.
func (s *testService) listenFrom() (dial func(from string) net.Conn) {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(fromListener{ln}) }()
	s.t.Cleanup(func() { s.Close(); <-served })
	return func(from string) net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprintln(c, from)
		return c
	}
}

// waiting returns how many connections wait for a request, or for one to be whole.
func (l *connLimit) waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle.Len()
}

// ask makes a request on c and returns the answer's status, or 0 if there is
// none.
func ask(c net.Conn, path string) int {
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// isClosed reports whether the service closes c without a word.
func isClosed(c net.Conn) bool {
	n, err := c.Read(make([]byte, 1))
	ne, ok := err.(net.Error)
	return n == 0 && err != nil && (!ok || !ne.Timeout())
}

// TestConnectionsPerAddress: one address over its limit does no harm to others,
// and proxies have no limit.
func TestConnectionsPerAddress(t *testing.T) {
	// The time limit must not close what the other one has let in.
	s := newService(t, Config{MaxConnectionsPerAddress: 3, TrustedProxies: []string{"198.51.100.0/24"}, headerTimeout: time.Minute})
	s.connect("a", echoHandler)
	dial := s.listenFrom()
	var held []net.Conn
	for range 3 {
		c := dial("2001:db8::1")
		if status := ask(c, "/a/"); status != 200 {
			t.Fatalf("within the limit: %d", status)
		}
		held = append(held, c)
	}
	if !isClosed(dial("2001:db8::2")) { // of the same subscriber
		t.Error("one over the limit was not closed")
	}
	for _, from := range []string{"2001:db8:0:1::1", "192.0.2.1"} {
		if status := ask(dial(from), "/a/"); status != 200 {
			t.Errorf("%s got %d", from, status)
		}
	}
	for _, from := range []string{"198.51.100.7", "127.0.0.1"} {
		for i := range 6 {
			if status := ask(dial(from), "/a/"); status != 200 {
				t.Errorf("%s got %d on connection %d", from, status, i)
			}
		}
	}
	held[0].Close()
	waitFor(t, func() bool {
		c := dial("2001:db8::3")
		defer c.Close()
		return ask(c, "/a/") == 200
	})
}

// TestIdleConnectionsMakeRoom: connections without a request, or with half of
// one, keep nobody out; the longest idle goes first, and those with a request
// in progress stay.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	for name, tc := range map[string]struct{ first string }{
		"silent":      {""},
		"half header": {"GET /a/ HTTP/1.1\r\nHost:"},
		"HTTP/2":      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
		"idle":        {"GET /__version__ HTTP/1.1\r\nHost: h\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, Config{MaxConnections: 5})
			inside, release := make(chan struct{}), make(chan struct{})
			s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					close(inside)
					<-release
				}
			}))
			dial := s.listenFrom()
			slow := make(chan int, 1)
			go func() { slow <- ask(dial("192.0.2.1"), "/a/slow") }()
			<-inside
			waitFor(t, func() bool { return s.connections.count() == 1 }) // the tunnel's does not count any more
			var idle []net.Conn
			for i := range 4 {
				c := dial("192.0.2.2")
				io.WriteString(c, tc.first)
				if name == "idle" || name == "HTTP/2" {
					c.Read(make([]byte, 1)) // it has been answered
				}
				// The answer may be here before the connection waits for the next request.
				waitFor(t, func() bool { return s.connections.waiting() == i+1 })
				idle = append(idle, c)
			}
			for i := range 20 {
				c := dial("192.0.2.3")
				if status := ask(c, "/a/"); status != 200 {
					t.Fatalf("viewer %d got %d", i, status)
				}
				waitFor(t, func() bool { return s.connections.waiting() == len(idle) })
			}
			for _, c := range idle {
				if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Error("an idle connection is still open")
				}
			}
			close(release)
			if status := <-slow; status != 200 {
				t.Errorf("the one that was busy got %d", status)
			}
		})
	}
}

// TestBusyConnectionsLeaveRoomToRegister: viewers that use up all connections
// keep tunnel clients from nothing, and the health check neither.
func TestBusyConnectionsLeaveRoomToRegister(t *testing.T) {
	s := newService(t, Config{MaxConnections: 3})
	inside, release := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inside <- struct{}{}
			<-release
		}
	})
	s.waitActive(s.connect("a", h)) // is none of the three
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if status := ask(c, "/a/slow"); status != 200 {
				t.Errorf("one that was busy got %d", status)
			}
		})
	}
	for range 3 {
		<-inside
	}
	resp, text := s.get("/a/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !resp.Close || !strings.Contains(text, string(codeConnectionLimit)) {
		t.Errorf("a viewer got %v", resp)
	}
	if resp, _ := s.get("/__heartbeat__"); resp.StatusCode != 200 {
		t.Errorf("the heartbeat is %d", resp.StatusCode)
	}
	for i := range 5 {
		s.waitActive(s.connect(fmt.Sprint("b", i), h))
	}
	// A forged registration does not help a viewer.
	if resp, _ := s.get("/a/", wire.HeaderID, "a"); resp.StatusCode != 503 {
		t.Errorf("a viewer with a registration's header got %d", resp.StatusCode)
	}
	close(release)
	wg.Wait()
	waitFor(t, func() bool { resp, _ := s.get("/a/"); return resp.StatusCode == 200 })
}

// TestSpareConnectionsAreBounded: beyond the spare ones there are none.
func TestSpareConnectionsAreBounded(t *testing.T) {
	l := newConnLimit(2, 0, func(netip.Addr) bool { return false }, newMemory(0, trustedProxies{}), connCost)
	var admitted []*viewerConn
	for range 2 + reservedConnections + 3 {
		a, b := net.Pipe()
		defer b.Close()
		c := &viewerConn{Layer: netconn.Layer{Conn: a}, limit: l}
		if l.admit(c) {
			l.connState(c, http.StateActive)
			admitted = append(admitted, c)
		}
	}
	if n := len(admitted); n != 2+reservedConnections || l.overfull(admitted[0]) || !l.overfull(admitted[2]) {
		t.Errorf("%d were admitted", n)
	}
	for _, c := range admitted {
		c.Close()
		c.Close()
	}
	if l.open != 0 || l.idle.Len() != 0 || len(l.byAddr) != 0 {
		t.Errorf("left: %d, %d, %v", l.open, l.idle.Len(), l.byAddr)
	}
}

// TestBrokenConnectionsAreUncounted: a connection that the service itself breaks
// off, because the answer cannot be whole, gives back its place.
func TestBrokenConnectionsAreUncounted(t *testing.T) {
	for name, tc := range map[string]struct {
		request string
		handler http.HandlerFunc
	}{
		"HTTP/1.0 answer": {"GET /a/ HTTP/1.0\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}},
		"upgrade": {"GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nhalf")
			panic(http.ErrAbortHandler)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, Config{})
			s.waitActive(s.connect("a", tc.handler))
			for range 3 {
				if got := s.raw(tc.request); !strings.HasSuffix(got, "half") {
					t.Errorf("the viewer got %q", got)
				}
			}
			waitFor(t, func() bool { return s.connections.count() == 0 })
		})
	}
}

// TestConnectionDefaults: one address cannot push out all others, whatever the
// limit for all is, and there is one however many files may be open.
func TestConnectionDefaults(t *testing.T) {
	for _, tc := range []struct{ total, perAddress, wantTotal, wantPerAddress int }{
		{100_000, 0, 100_000, 2000},
		{1000, 0, 1000, 250},
		{100, 0, 100, 64},
		{1000, 900, 1000, 900},
		{-1, 0, 0, 2000},
		{1000, -1, 1000, 0},
	} {
		s, err := check(Config{PublicURL: "http://h", Secrets: [][]byte{testSecret}, MaxConnections: tc.total, MaxConnectionsPerAddress: tc.perAddress})
		if err != nil || s.MaxConnections != tc.wantTotal || s.MaxConnectionsPerAddress != tc.wantPerAddress {
			t.Errorf("%d and %d: %d and %d, %v", tc.total, tc.perAddress, s.MaxConnections, s.MaxConnectionsPerAddress, err)
		}
	}
	s, err := check(Config{PublicURL: "http://h", Secrets: [][]byte{testSecret}})
	if err != nil || s.MaxConnections <= 0 || s.MaxConnections > 50_000 {
		t.Errorf("without a setting: %d, %v", s.MaxConnections, err)
	}
}
