package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// attemptOf returns the headers of a registration of the id "a" with the number n of an
// instance, and with joins the number of the one that it joins.
func attemptOf(t testing.TB, instance string, n int, joins ...int) http.Header {
	h := http.Header{
		"Authorization":     {"Bearer " + mint(t, "a")},
		wire.HeaderID:       {"a"},
		wire.HeaderInstance: {instance},
		wire.HeaderAttempt:  {strconv.Itoa(n)},
	}
	for _, j := range joins {
		h.Add(wire.HeaderJoins, strconv.Itoa(j))
	}
	return h
}

// namedHandler answers with its name, at once or, for /slow, when it is told to.
type namedHandler struct {
	name    string
	began   chan string // the names of handlers that /slow has reached
	proceed chan struct{}
}

func (h namedHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/slow" {
		h.began <- h.name
		select {
		case <-h.proceed:
		case <-r.Context().Done():
			return
		}
	}
	io.WriteString(w, h.name)
}

// crewService is a service with a tunnel client of several websockets.
type crewService struct {
	*testService
	token   string // the first one's, as in its header
	began   chan string
	proceed chan struct{}
	release func() // lets /slow be answered
	clients []*testClient
	slow    sync.WaitGroup

	mu       sync.Mutex
	answered map[string]int // slow requests with a whole answer, by the handler's name
}

// newCrew returns a service where the tunnel "a" has n websockets, of the instance
// "one", whose handlers are named by number, from 1.
func newCrew(t testing.TB, cfg Config, n int) *crewService { return crewAt(newService(t, cfg), n) }

func crewAt(service *testService, n int) *crewService {
	t := service.t
	s := &crewService{testService: service, began: make(chan string, 100), proceed: make(chan struct{}), answered: map[string]int{}}
	s.release = sync.OnceFunc(func() { close(s.proceed) })
	t.Cleanup(s.slow.Wait)
	t.Cleanup(s.release)
	for i := range n {
		h := attemptOf(t, "one", i+1)
		if i == 0 {
			s.token = h.Get("Authorization")
		} else {
			h.Set(wire.HeaderJoins, "1")
		}
		s.add(h, strconv.Itoa(i+1))
		s.waitConnections(i + 1)
	}
	return s
}

// add registers with header, and serves as name.
func (s *crewService) add(header http.Header, name string) *testClient {
	s.t.Helper()
	c, resp, err := s.dialWith(header)
	if err != nil {
		if resp != nil {
			b, _ := io.ReadAll(resp.Body)
			s.t.Fatalf("%d %s", resp.StatusCode, b)
		}
		s.t.Fatal(err)
	}
	c.serve(namedHandler{name, s.began, s.proceed})
	s.t.Cleanup(func() { c.conn.Close() })
	s.clients = append(s.clients, c)
	return c
}

func (s *crewService) tunnel() TunnelInfo {
	for info := range s.Tunnels() {
		return info
	}
	return TunnelInfo{}
}

func (s *crewService) waitConnections(n int) {
	s.t.Helper()
	waitFor(s.t, func() bool { return s.tunnel().Connections == n })
}

// requestSlow makes a request for /slow, which ends when release is called, and returns
// the name of the handler that has it.
func (s *crewService) requestSlow() string {
	s.t.Helper()
	url := s.url + "/a/slow"
	s.slow.Go(func() {
		resp, err := s.http.Get(url)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil && resp.StatusCode == 200 {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answered[string(b)]++
		}
	})
	select {
	case name := <-s.began:
		return name
	case <-time.After(20 * time.Second):
		s.t.Fatal("a request does not reach the tunnel client")
		return ""
	}
}

// finish lets all slow requests be answered, and returns how many have a whole answer, by
// the handler's name.
func (s *crewService) finish() map[string]int {
	s.release()
	s.slow.Wait()
	return s.answered
}

// TestRequestsSpread over the websockets of one tunnel, and count as those of one.
func TestRequestsSpread(t *testing.T) {
	s := newCrew(t, Config{MaxStreams: 9}, 4)
	by := map[string]int{}
	for range 8 {
		by[s.requestSlow()]++
	}
	if fmt.Sprint(by) != "map[1:2 2:2 3:2 4:2]" {
		t.Errorf("requests by websocket: %v", by)
	}
	if info := s.tunnel(); info.InFlight != 8 || info.Connections != 4 {
		t.Errorf("the tunnel: %d requests on %d websockets", info.InFlight, info.Connections)
	}
	if st := s.Status(); st.Tunnels != 1 || st.InFlight != 8 || st.Slots != 9 || st.Sessions["active"] != 4 {
		t.Errorf("status: %+v", st)
	}
	if d, ok := s.Tunnel("a"); !ok || len(d.Sessions) != 4 || d.Active == nil || d.Active.InFlight != 8 {
		t.Errorf("details: %+v", d)
	}
	// The limit is the tunnel's, whichever websocket there is room on.
	s.requestSlow()
	full, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(full, "GET", s.url+"/a/", nil)
	if resp, err := s.http.Do(req); err == nil {
		resp.Body.Close()
		t.Error("there is room for a tenth request")
	}
	if got := s.finish(); fmt.Sprint(got) != "map[1:3 2:2 3:2 4:2]" {
		t.Errorf("answers: %v", got)
	}
	waitFor(t, func() bool { return s.tunnel().InFlight == 0 })
	if info := s.tunnel(); info.Sent != 9 {
		t.Errorf("%d bytes sent in all, want 9", info.Sent)
	}
	if _, body := s.get("/a/"); body != "1" {
		t.Errorf("while all are idle, %s has the request", body)
	}
}

// TestJoinRefused: who may not join is told so, and disturbs nothing.
func TestJoinRefused(t *testing.T) {
	s := newCrew(t, Config{}, 1)
	refused := func(what string, h http.Header) {
		t.Helper()
		c, resp, err := s.dialWith(h)
		if err == nil {
			c.conn.Close()
			t.Errorf("%s: admitted", what)
			return
		}
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusConflict || !strings.Contains(string(b), string(codeNotJoined)) {
			t.Errorf("%s: %d %s", what, resp.StatusCode, b)
		}
	}
	refused("another instance", attemptOf(t, "two", 2, 1))
	refused("another attempt", attemptOf(t, "one", 3, 2))
	refused("attempt zero", attemptOf(t, "one", 3, 0))
	refused("two attempts", attemptOf(t, "one", 3, 1, 1))
	h := attemptOf(t, "one", 3, 1)
	h.Set(wire.HeaderJoins, "x")
	refused("no number", h)
	h = attemptOf(t, "one", 3, 1)
	h.Del(wire.HeaderInstance)
	refused("no instance", h)
	h = attemptOf(t, "one", 3, 1)
	h.Set(wire.HeaderID, "b")
	h.Set("Authorization", "Bearer "+mint(t, "b"))
	refused("no tunnel", h)
	h = attemptOf(t, "one", 3, 1)
	h.Set("Authorization", "Bearer x")
	if _, resp, err := s.dialWith(h); err == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Error("a join without a token is not refused for that")
	}
	if info := s.tunnel(); info.Connections != 1 || info.Replacements != 0 || info.Reconnects != 0 {
		t.Errorf("the tunnel: %+v", info)
	}
	if _, body := s.get("/a/"); body != "1" {
		t.Errorf("answer %q", body)
	}

	for i := 2; i <= maxConnections; i++ {
		s.add(attemptOf(t, "one", i, 1), strconv.Itoa(i))
		s.waitConnections(i)
	}
	refused("one more", attemptOf(t, "one", 99, 1))

	// A client that registers without names has no session that can be joined.
	plain := attemptOf(t, "", 0)
	plain.Del(wire.HeaderInstance)
	plain.Del(wire.HeaderAttempt)
	s.add(plain, "plain")
	s.waitConnections(1)
	h = plain.Clone()
	h.Set(wire.HeaderJoins, "0")
	refused("no names", h)
}

// TestJoinComesTooLate: the session to join has gone while the registration was under
// way.
func TestJoinComesTooLate(t *testing.T) {
	s := newCrew(t, Config{}, 1)
	late, _, err := s.dialWith(attemptOf(t, "one", 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer late.conn.Close()
	s.waitActive(s.add(attemptOf(t, "two", 1), "new"))
	late.serve(namedHandler{"late", s.began, s.proceed})
	wantClose(t, late, wire.CloseDraining)
	if info := s.tunnel(); info.Connections != 1 {
		t.Errorf("%d websockets", info.Connections)
	}
}

// wantClose waits until the service has closed c, and wants code to be the reason.
func wantClose(t *testing.T, c *testClient, code wire.CloseCode) {
	t.Helper()
	select {
	case <-c.conn.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the session does not end")
	}
	var ce *h2conn.CloseError
	if err := c.conn.Err(); !errors.As(err, &ce) || ce.Code != int(code) {
		t.Errorf("the session has ended with %v, want %d", err, code)
	}
}

// TestActiveEnds: with the active session go those beside it, which finish what they
// have.
func TestActiveEnds(t *testing.T) {
	goaway := wire.Control{Type: wire.TypeGoaway}
	for name, end := range map[string]struct {
		do    func(s *crewService)
		taken bool // another session has taken over
		code  wire.CloseCode
	}{
		"its connection breaks":      {func(s *crewService) { s.clients[0].conn.Abort() }, false, wire.CloseDraining},
		"its client lets it go":      {func(s *crewService) { s.clients[0].conn.SendControl(goaway.Encode()) }, false, wire.CloseDraining},
		"its client breaks a rule":   {func(s *crewService) { s.clients[0].conn.SendControl([]byte("{")) }, false, wire.CloseDraining},
		"another client takes over":  {func(s *crewService) { s.waitActive(s.add(attemptOf(s.t, "two", 1), "new")) }, true, wire.CloseReplaced},
		"its client registers again": {func(s *crewService) { s.waitActive(s.add(attemptOf(s.t, "one", 9), "new")) }, true, wire.CloseReplaced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newCrew(t, Config{}, 3)
			for range 3 {
				s.requestSlow()
			}
			end.do(s)
			if !end.taken {
				s.waitConnections(0)
			}
			if resp, body := s.get("/a/"); end.taken != (body == "new") || !end.taken && resp.StatusCode != 404 {
				t.Errorf("a new request got %d %q", resp.StatusCode, body)
			}
			if st := s.Status(); st.Sessions["draining"] < 2 || st.InFlight < 2 {
				t.Errorf("status: %+v", st)
			}
			if c, resp, err := s.dialWith(attemptOf(t, "one", 10, 1)); err == nil {
				c.conn.Close()
				t.Error("the former session can be joined")
			} else if resp.StatusCode != http.StatusConflict {
				t.Errorf("joining the former session: %d", resp.StatusCode)
			}
			if got := s.finish(); got["2"] != 1 || got["3"] != 1 {
				t.Errorf("answers: %v", got)
			}
			wantClose(t, s.clients[1], end.code)
			wantClose(t, s.clients[2], end.code)
			if info := s.tunnel(); end.taken && info.Connections != 1 {
				t.Errorf("%d websockets serve", info.Connections)
			}
		})
	}
}

// TestBesideEnds: one that has joined takes only itself away.
func TestBesideEnds(t *testing.T) {
	goaway := wire.Control{Type: wire.TypeGoaway}
	for name, end := range map[string]func(s *crewService){
		"its connection breaks":    func(s *crewService) { s.clients[1].conn.Abort() },
		"its client lets it go":    func(s *crewService) { s.clients[1].conn.SendControl(goaway.Encode()) },
		"its client breaks a rule": func(s *crewService) { s.clients[1].conn.SendControl([]byte("{")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newCrew(t, Config{}, 3)
			for range 3 {
				s.requestSlow()
			}
			end(s)
			s.waitConnections(2)
			for range 2 {
				s.requestSlow()
			}
			if got := s.finish(); got["1"]+got["2"]+got["3"] != 5 { // also the one on 2, which can be made twice
				t.Errorf("answers: %v", got)
			}
			info := s.tunnel()
			if info.Replacements != 0 || info.Reconnects != 0 || info.Connections != 2 {
				t.Errorf("the tunnel: %+v", info)
			}
			s.add(attemptOf(t, "one", 9, 1), "next")
			s.waitConnections(3)
			select {
			case <-s.clients[0].conn.Done():
				t.Error("the active session has ended")
			default:
			}
		})
	}
}

// TestRequestsWhileBesideBreaks: new requests do not fail because a session breaks that
// has joined another, and neither do those that can be made twice.
func TestRequestsWhileBesideBreaks(t *testing.T) {
	s := newCrew(t, Config{}, 3)
	for range 2 {
		s.requestSlow() // on the first two, so that the third one is next
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := s.http.Get(s.url + "/a/")
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				if resp.Body.Close(); resp.StatusCode != 200 {
					t.Errorf("%d %s", resp.StatusCode, b)
				}
			}
		})
	}
	for i := range 10 {
		c := s.clients[len(s.clients)-1]
		c.conn.Abort()
		s.waitConnections(2)
		s.add(attemptOf(t, "one", 10+i, 1), "next")
		s.waitConnections(3)
	}
	close(stop)
	wg.Wait()
}

// TestEvictCrew: an operator cuts all websockets of a tunnel, and blocks all tokens.
func TestEvictCrew(t *testing.T) {
	s := newCrew(t, Config{}, 3)
	for range 3 {
		s.requestSlow()
	}
	blocked := attemptOf(t, "one", 9, 1)
	blocked.Set("Authorization", s.token) // not one that may have been issued later
	late, _, err := s.dialWith(blocked)
	if err != nil {
		t.Fatal(err)
	}
	defer late.conn.Close()
	if !s.Evict("a") {
		t.Error("there was nothing to evict")
	}
	for _, c := range s.clients {
		wantClose(t, c, wire.CloseEvicted)
	}
	if got := s.finish(); len(got) != 0 {
		t.Errorf("answers: %v", got)
	}
	late.serve(echoHandler)
	wantClose(t, late, wire.CloseDraining) // there is nothing to join
	if _, resp, err := s.dialWith(blocked); err == nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a further registration: %v", err)
	}
	waitFor(t, func() bool { return len(s.registry.sessions()) == 0 })
}

// TestShutdownOfCrew: the service leaves without losing a request on any websocket, and
// Close forgets none.
func TestShutdownOfCrew(t *testing.T) {
	s := newCrew(t, Config{DrainTimeout: 20 * time.Second}, 4)
	for range 8 {
		s.requestSlow()
	}
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	for _, c := range s.clients {
		if m := <-c.control; m.Type != wire.TypeGoaway || m.Reason != wire.ReasonDraining {
			t.Errorf("got %+v, want a goaway", m)
		}
	}
	if _, resp, err := s.dialWith(attemptOf(t, "one", 9, 1)); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a join while draining: %v", err)
	}
	if got := s.finish(); fmt.Sprint(got) != "map[1:2 2:2 3:2 4:2]" {
		t.Errorf("answers: %v", got)
	}
	for _, c := range s.clients {
		c.conn.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode()) // it is elsewhere now
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, c := range s.clients {
		wantClose(t, c, wire.CloseDraining)
	}
}

// TestCrewMemory: each websocket is charged, and gives back what it held.
func TestCrewMemory(t *testing.T) {
	s := newCrew(t, Config{MemoryLimit: 256 << 20}, 1)
	before := s.Status().Held
	for i := 2; i <= 4; i++ {
		s.add(attemptOf(t, "one", i, 1), strconv.Itoa(i))
		s.waitConnections(i)
	}
	for _, sess := range s.registry.sessions() {
		if n := sess.memory.Bytes(); n < sessionCost {
			t.Errorf("a websocket holds %d bytes, want at least %d", n, sessionCost)
		}
	}
	for _, c := range s.clients[1:] {
		c.conn.Abort()
	}
	s.waitConnections(1)
	s.http.CloseIdleConnections()
	waitFor(t, func() bool { return s.Status().Held <= before })
}

// TestNodesJoin: websockets join on the node that has the tunnel, and nowhere else; what
// comes from other nodes is spread over them; and they go when the client registers at
// another node.
func TestNodesJoin(t *testing.T) {
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	s := crewAt(nodes[0], 3)
	nodes[0].waitAnnounced()
	if c, resp, err := nodes[1].dialWith(attemptOf(t, "one", 4, 1)); err == nil {
		c.conn.Close()
		t.Error("another node admits a session that joins")
	} else if resp.StatusCode != http.StatusConflict {
		t.Errorf("another node: %d", resp.StatusCode)
	}
	at := s.url
	s.url = nodes[1].url
	by := map[string]int{}
	for range 6 {
		by[s.requestSlow()]++
	}
	s.url = at
	if fmt.Sprint(by) != "map[1:2 2:2 3:2]" {
		t.Errorf("requests by websocket: %v", by)
	}
	next, _, err := nodes[1].dialWith(attemptOf(t, "one", 5))
	if err != nil {
		t.Fatal(err)
	}
	defer next.conn.Close()
	next.serve(echoHandler)
	nodes[1].waitActive(next)
	s.waitConnections(0)
	if got := s.finish(); fmt.Sprint(got) != "map[1:2 2:2 3:2]" {
		t.Errorf("answers: %v", got)
	}
	for _, c := range s.clients {
		wantClose(t, c, wire.CloseReplaced)
	}
}

// TestTokenOfBesideRunsOut: it drains alone.
func TestTokenOfBesideRunsOut(t *testing.T) {
	s := newCrew(t, Config{}, 2)
	short, err := MintToken(testSecret, Claims{ID: "a", TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	h := attemptOf(t, "one", 3, 1)
	h.Set("Authorization", "Bearer "+short)
	c := s.add(h, "3")
	s.waitConnections(3)
	if m := <-c.control; m.Type != wire.TypeGoaway || m.Reason != wire.ReasonExpired {
		t.Errorf("got %+v, want a goaway", m)
	}
	c.conn.SendControl(wire.Control{Type: wire.TypeGoaway}.Encode())
	wantClose(t, c, wire.CloseDraining)
	s.waitConnections(2)
}
