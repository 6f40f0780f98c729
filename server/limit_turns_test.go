package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// oneTurn makes the peers of l have one turn at a time, on any machine.
func oneTurn(t *testing.T) {
	old := runtime.GOMAXPROCS(2)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

// begins begins a turn of t in a goroutine, which sends to started when it has.
func begins(t *turn, started chan *turn) {
	go func() {
		t.begin()
		started <- t
	}()
	synctest.Wait()
}

func TestTurnsOfOnePeer(t *testing.T) {
	oneTurn(t)
	synctest.Test(t, func(t *testing.T) {
		var l turnLimit
		var first, second, third, other turn
		for _, c := range []*turn{&first, &second, &third} {
			l.join(c, "peer")
		}
		l.join(&other, "other")
		started := make(chan *turn, 4)

		begins(&first, started)
		begins(&other, started)
		if len(started) != 2 {
			t.Fatalf("%d turns have begun: two peers have one each", len(started))
		}
		<-started
		<-started
		begins(&second, started)
		begins(&third, started)
		if len(started) != 0 {
			t.Fatal("a second turn of a peer has begun beside the first")
		}
		first.end()
		if got := <-started; got != &second {
			t.Error("the turn went to another connection than the one that has waited longest")
		}
		second.end()
		second.end() // twice is once
		if got := <-started; got != &third {
			t.Error("the last connection has no turn")
		}
		third.end()
		begins(&first, started)
		if len(started) != 1 {
			t.Error("no turn although all have ended")
		}
	})
}

// What waits for something else does not keep the turn from the others.
func TestTurnsAreOverdue(t *testing.T) {
	oneTurn(t)
	synctest.Test(t, func(t *testing.T) {
		var l turnLimit
		all := make([]turn, 5)
		started := make(chan *turn, len(all))
		begun := time.Now()
		for i := range all {
			l.join(&all[i], "peer")
			begins(&all[i], started)
		}
		for range all {
			<-started
		}
		if d := time.Since(begun); d != time.Duration(len(all)-1)*turnTime {
			t.Errorf("%d turns without an end began within %v", len(all), d)
		}
		all[0].end() // of a turn that is over does nothing
		if n := len(all[4].place.Load().of.holders); n != 1 {
			t.Errorf("%d connections have their turn, want the last", n)
		}
	})
}

func TestFreshConnectionsDoNotWaitForAll(t *testing.T) {
	oneTurn(t)
	synctest.Test(t, func(t *testing.T) {
		var l turnLimit
		busy := make([]turn, 100)
		var fresh turn
		l.join(&fresh, "peer")
		started := make(chan *turn, 1)
		for i := range busy {
			l.join(&busy[i], "peer")
			busy[i].begin()
			busy[i].end()
		}
		for i := range busy {
			go func() {
				busy[i].begin()
				started <- &busy[i]
			}()
		}
		synctest.Wait()
		begins(&fresh, started)
		for n := 0; n < len(busy)+1; n++ {
			c := <-started
			if c == &fresh {
				if n > 3 {
					t.Errorf("%d others had their turn before it", n)
				}
				fresh.end()
				fresh.place.Load().had = 1000
				continue
			}
			c.end()
			synctest.Wait()
		}
	})
}

func TestPeersThatBreakLimitsRest(t *testing.T) {
	oneTurn(t)
	synctest.Test(t, func(t *testing.T) {
		var l turnLimit
		var c turn
		l.join(&c, "peer")
		turns := func() (n int) {
			for begun := time.Now(); time.Since(begun) < time.Second; n++ {
				c.begin()
				time.Sleep(10 * time.Millisecond) //nolint:forbidigo // in a synctest bubble
				c.end()
			}
			return n
		}
		if n := turns(); n != 100 {
			t.Errorf("%d turns within a second, want 100", n)
		}
		c.slowDown()
		if n := turns(); n > 26 {
			t.Errorf("%d turns within a second after a limit was broken, want a quarter", n)
		}
		time.Sleep(slowTime) //nolint:forbidigo // in a synctest bubble
		if n := turns(); n < 97 {
			t.Errorf("%d turns within a second, later", n)
		}
	})
}

// A connection that waits for a turn and joins those of another peer waits no longer, and
// what it had stays with neither.
func TestJoiningAnotherPeer(t *testing.T) {
	oneTurn(t)
	synctest.Test(t, func(t *testing.T) {
		var l turnLimit
		var first, second turn
		l.join(&first, "peer")
		l.join(&second, "peer")
		started := make(chan *turn, 2)
		begins(&first, started)
		begins(&second, started)
		<-started
		left := second.place.Load()
		l.join(&second, "other")
		<-started
		first.end()
		if left.held.Load() || len(left.of.holders)+len(left.of.waiting) > 0 {
			t.Error("a connection that has joined another peer has a turn of the one before")
		}
		second.begin()
		if !second.place.Load().held.Load() {
			t.Error("no turn among those of the new peer")
		}
		l.join(&second, "peer")
		begins(&first, started)
		if len(started) != 1 {
			t.Error("a turn that was given back is not free")
		}
	})
}

// net/http reads from a connection in a goroutine of its own while the handler joins it to
// the turns of a tunnel.
func TestJoiningWhileAnotherReads(t *testing.T) {
	oneTurn(t)
	var l turnLimit
	var c, other turn
	l.join(&other, "tunnel")
	other.slowDown() // so that there are rests to reckon with
	for range 200 {
		l.join(&c, "address")
		c.slowDown()
		var reading sync.WaitGroup
		reading.Go(func() {
			c.begin()
			c.end()
		})
		l.join(&c, "tunnel")
		c.begin()
		c.end()
		reading.Wait()
	}
}

func TestTurnsAreForgotten(t *testing.T) {
	var l turnLimit
	c := new(turn)
	l.join(c, netip.MustParseAddr("192.0.2.1"))
	l.join(c, "another")
	waitFor(t, func() bool {
		runtime.GC()
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.of) == 1
	})
	runtime.KeepAlive(c)
}

// A request that waits for its target has no turn, or a few of them would hold up all
// others of their address.
func TestRequestsUnderWayHaveNoTurn(t *testing.T) {
	s := newService(t, Config{})
	arrived, answer := make(chan struct{}, 10), make(chan struct{})
	defer close(answer)
	s.waitActive(s.connect("waits", http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-answer
	})))
	for _, request := range []string{
		"GET /waits/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /waits/ HTTP/1.1\r\nHost: h\r\n\r\nGET /waits/ HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /waits/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
		"POST /waits/ HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab",
		"GET /waits/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
		"GET /waits/ HTTP/1.0\r\n\r\n",
	} {
		s.dialRaw(request)
		<-arrived
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/waits/", nil)
	if err != nil {
		t.Fatal(err)
	}
	viewer := s.http2Viewer()
	go func() {
		if resp, err := viewer.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	}()
	<-arrived
	waitFor(t, func() bool {
		s.turns.mu.Lock()
		defer s.turns.mu.Unlock()
		for _, p := range s.turns.of {
			if of := p.Value(); of != nil {
				of.mu.Lock()
				n := len(of.holders)
				of.mu.Unlock()
				if n > 0 {
					return false
				}
			}
		}
		return len(s.turns.of) > 0
	})
}

// What a tunnel client sends is the tunnel's work. HTTP/2 inside a tunnel reads past most
// layers of the connection, but not past this one.
func TestTunnelsTakeTurns(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.NotFoundHandler()))
	s.get("/a/")
	s.turns.mu.Lock()
	of := s.turns.of[labelOf("a")].Value()
	s.turns.mu.Unlock()
	if of == nil {
		t.Fatal("the tunnel is no peer")
	}
	ended := func() uint64 {
		of.mu.Lock()
		defer of.mu.Unlock()
		return of.ended
	}
	before := ended()
	s.get("/a/")
	if ended() == before {
		t.Error("the tunnel client's answer took no turn")
	}
}

// Each of many requests that come at once takes a turn. With many that miss, the address is
// slowed down.
func TestPipelinedRequestsTakeTurns(t *testing.T) {
	s := newService(t, Config{})
	var keep turn
	s.turns.join(&keep, netip.MustParseAddr("127.0.0.1"))
	of := keep.place.Load().of
	const n = missesBurst + 50
	_, br := s.dialRaw(strings.Repeat("GET /nobody/ HTTP/1.1\r\nHost: h\r\n\r\n", n))
	for range n {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	if of.ended < n {
		t.Errorf("%d turns for %d requests", of.ended, n)
	}
	if of.slow.IsZero() {
		t.Error("an address that misses too often is not slowed down")
	}
}

// Requests that a trusted proxy passes on over HTTP/1 take turns of their viewers.
func TestViewersBehindProxyTakeTurns(t *testing.T) {
	s := newService(t, Config{TrustedProxies: []string{"127.0.0.0/8"}})
	viewers := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	keep := make([]turn, len(viewers))
	ended := func(i int) uint64 {
		of := keep[i].place.Load().of
		of.mu.Lock()
		defer of.mu.Unlock()
		return of.ended
	}
	for i, v := range viewers {
		s.turns.join(&keep[i], v)
	}
	s.waitActive(s.connect("a", http.NotFoundHandler()))
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for n := range 3 {
		for i, v := range viewers {
			for _, path := range []string{"/", "/nobody/", "/a/"} {
				fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: %v\r\n\r\n", path, v)
				resp, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
			}
			if got, want := ended(i), uint64(3*(n+1)); got != want {
				t.Errorf("%v has had %d turns, want %d", v, got, want)
			}
		}
	}
}

// Tunnel clients and viewers of one address that come at once are refused, but not slowed
// down: after a restart of the service ten thousand may come back from one address.
func TestWhoIsSlowedDown(t *testing.T) {
	s := newService(t, Config{MemoryLimit: 1 << 20})
	addr := netip.MustParseAddr("127.0.0.1")
	slow := func() bool {
		s.turns.mu.Lock()
		of := s.turns.of[addr].Value()
		s.turns.mu.Unlock()
		if of == nil {
			return false
		}
		of.mu.Lock()
		defer of.mu.Unlock()
		return !of.slow.IsZero()
	}
	fill := func() (done func()) {
		h := s.memory.hold(nil, addr)
		h.Add(10 * s.memory.perAddress)
		return h.Release
	}
	const get = "GET /nobody/ HTTP/1.1\r\nHost: h\r\n\r\n"
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/nobody/", nil)
	if err != nil {
		t.Fatal(err)
	}

	c, br := s.dialRaw(get)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	viewer := s.http2Viewer()
	if resp, err = viewer.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	defer fill()()

	io.WriteString(c, get)
	if resp, err := http.ReadResponse(br, nil); err == nil && resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%d, want no room", resp.StatusCode)
	}
	if slow() {
		t.Error("an address was slowed down for a single request")
	}
	if resp, err := viewer.RoundTrip(req); err == nil && resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("%d, want no room", resp.StatusCode)
	}
	if !slow() {
		t.Error("an address was not slowed down for a request too many over HTTP/2")
	}
}
