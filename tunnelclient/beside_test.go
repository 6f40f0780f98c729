package tunnelclient_test

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// joiningConfig returns a config with n connections.
func joiningConfig(s *fakeService, tokens tunnelclient.TokenSource, n int) tunnelclient.Config {
	cfg := s.config(tokens)
	cfg.Connections = n
	return cfg
}

// joins returns the headers that tell what the attempts so far have asked to join, in
// order; empty: nothing.
func (s *fakeService) joins() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.joined)
}

// The client opens as many websockets as it is told to and the service admits, names the
// session that they join, and ends all of them in good order.
func TestConnections(t *testing.T) {
	for _, tt := range []struct {
		wants, admits, opens int
	}{{4, 8, 4}, {8, 3, 3}, {4, 1, 1}, {4, 0, 1}, {1, 8, 1}, {0, 8, 1}} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			s.connections = tt.admits
			proceed := make(chan struct{})
			r := serve(t, joiningConfig(s, tunnelclient.StaticToken("t1"), tt.wants), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					<-proceed
				}
				io.WriteString(w, "hello")
			}))
			all := []*fakeSession{s.next()}
			for len(all) < tt.opens {
				all = append(all, s.next())
			}
			pass(time.Hour)
			got := s.joins()
			if len(got) != tt.opens || got[0] != "" {
				t.Fatalf("%d of %d: registrations join %q", tt.wants, tt.admits, got)
			}
			for _, j := range got[1:] {
				if j != "1" {
					t.Errorf("a registration joins %q", j)
				}
			}
			if n := len(r.seen()); n != 2 { // connecting, connected
				t.Errorf("%d states: %+v", n, r.seen())
			}
			var slow sync.WaitGroup
			for _, fs := range all {
				slow.Go(func() { fs.expect("/slow", "hello") })
			}
			synctest.Wait()
			r.cancel()
			for _, fs := range all {
				if m := fs.control(); m.Type != wire.TypeGoaway {
					t.Errorf("got %+v, want a goaway", m)
				}
			}
			close(proceed)
			slow.Wait()
			r.stop()
		})
	}
}

// A further websocket that ends comes back; one that is refused is tried again, less and
// less often; none is when it cannot help.
func TestFurtherWebsocketComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.connections = 8
		type refusal struct {
			status     int
			retryAfter string
		}
		var refuse atomic.Pointer[refusal] // nil: admit
		s.admit = func(_ int, _ string, w http.ResponseWriter) bool {
			f := refuse.Load()
			if f == nil {
				return true
			}
			if f.retryAfter != "" {
				w.Header().Set("Retry-After", f.retryAfter)
			}
			w.WriteHeader(f.status)
			return false
		}
		r := serve(t, joiningConfig(s, tunnelclient.StaticToken("t1"), 2), hello)
		first, second := s.next(), s.next()
		pass(time.Minute)
		second.closeWith(wire.CloseDraining)
		begin := time.Now()
		second = s.next()
		if d := time.Since(begin); d > joinFirst {
			t.Errorf("it came back after %v", d)
		}
		second.expect("/x", "hello /x")

		pass(time.Minute)
		refuse.Store(&refusal{status: http.StatusConflict})
		second.closeWith(wire.CloseDraining)
		pass(time.Hour)
		if n := len(s.joins()); n < 3+8+8 || n > 3+10+13 { // the waits double up to 5 minutes
			t.Errorf("%d attempts in an hour", n-3)
		}
		refuse.Store(&refusal{http.StatusServiceUnavailable, "3000"})
		pass(6 * time.Minute)
		n := len(s.joins())
		pass(40 * time.Minute)
		if more := len(s.joins()) - n; more != 0 {
			t.Errorf("%d attempts before the service wants one", more)
		}
		refuse.Store(nil)
		s.next()
		first.expect("/", "hello /")

		refuse.Store(&refusal{status: http.StatusUnauthorized})
		n = len(s.joins())
		s.newest().closeWith(wire.CloseTokenExpired)
		pass(2 * time.Hour)
		if more := len(s.joins()) - n; more != 1 {
			t.Errorf("%d attempts with a token that is refused", more)
		}
		// With the next session the further one comes back.
		refuse.Store(nil)
		n = len(s.joins())
		first.closeWith(wire.CloseDraining)
		s.next()
		s.next()
		if got := s.joins()[n:]; len(got) != 2 || got[0] != "" || got[1] == "1" || got[1] == "" {
			t.Errorf("registrations join %q", got)
		}
		for _, st := range r.seen() {
			if re := st.Err; re != nil && st.Phase != tunnelclient.PhaseWaiting {
				t.Errorf("state %+v", st)
			}
		}
	})
}

// joinFirst is the longest wait of the first retry.
const joinFirst = time.Second

// The further websockets of a session that the service sends away finish what they have,
// and the next session has its own.
func TestFurtherWebsocketsFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.connections = 8
		proceed := make(chan struct{})
		r := serve(t, joiningConfig(s, tunnelclient.StaticToken("t1"), 3), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-proceed
			}
			io.WriteString(w, "hello")
		}))
		old := []*fakeSession{s.next(), s.next(), s.next()}
		var slow sync.WaitGroup
		for _, fs := range old {
			slow.Go(func() { fs.expect("/slow", "hello") })
		}
		synctest.Wait()
		for _, fs := range old {
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining, ReconnectAfterMS: 100})
		}
		next := []*fakeSession{s.next(), s.next(), s.next()}
		pass(30 * time.Minute)
		if got := s.joins(); len(got) != 6 {
			t.Errorf("registrations join %q", got)
		}
		for _, fs := range next {
			fs.expect("/", "hello")
		}
		close(proceed)
		slow.Wait()
		for _, fs := range old {
			fs.closeWith(wire.CloseDraining)
		}
		pass(time.Minute)
		if n := len(s.attempts()); n != 6 {
			t.Errorf("%d handshakes, want 6", n)
		}
		r.stop()
	})
}

// A further websocket whose token runs out is replaced by one with the token that is in
// force by then.
func TestTokenOfFurtherWebsocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.connections = 8
		pr, pw := io.Pipe()
		defer pw.Close()
		serve(t, joiningConfig(s, tunnelclient.TokenReader(pr), 2), hello)
		io.WriteString(pw, "t1\n")
		first, second := s.next(), s.next()
		expired := wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired}
		second.send(expired)
		pass(time.Minute)
		if n := len(s.attempts()); n != 2 {
			t.Errorf("%d handshakes without a newer token", n)
		}
		io.WriteString(pw, "t2\n")
		first.answerToken(true)
		if m := second.control(); m.Type != wire.TypeGoaway {
			t.Errorf("got %+v, want a goaway", m)
		}
		if third := s.next(); third.token != "t2" {
			t.Errorf("the next one has the token %q", third.token)
		}
		if n := len(first.controls) + len(second.controls); n != 0 {
			t.Errorf("%d further control messages", n)
		}
	})
}

// A further websocket that is refused for its token comes with the next token.
func TestRefusedTokenOfFurtherWebsocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.connections = 8
		var stale atomic.Bool
		s.admit = func(_ int, token string, w http.ResponseWriter) bool {
			if token == "t1" && stale.Load() {
				w.WriteHeader(http.StatusUnauthorized)
				return false
			}
			return true
		}
		pr, pw := io.Pipe()
		defer pw.Close()
		serve(t, joiningConfig(s, tunnelclient.TokenReader(pr), 2), hello)
		io.WriteString(pw, "t1\n")
		first, second := s.next(), s.next()
		stale.Store(true)
		second.closeWith(wire.CloseTokenExpired)
		pass(time.Minute)
		if n := len(s.joins()); n != 3 {
			t.Errorf("%d registrations, want 3", n)
		}
		io.WriteString(pw, "t2\n")
		first.answerToken(true)
		if third := s.next(); third.token != "t2" {
			t.Errorf("the next one has the token %q", third.token)
		}
	})
}

// A service that never lets go of what it has does not make a client hold more and more.
func TestFurtherWebsocketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.connections = 8
		serve(t, joiningConfig(s, tunnelclient.StaticToken("t1"), 2), hello)
		for range 20 {
			main := s.next()
			s.next()
			pass(time.Minute)
			main.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining})
		}
		s.next()
		s.next()
		pass(time.Minute)
		live := 0
		for _, fs := range s.all() {
			select {
			case <-fs.conn.Done():
			default:
				live++
			}
		}
		if live > 12 {
			t.Errorf("%d websockets live", live)
		}
	})
}

// TestConnectionsRule: the number has bounds.
func TestConnectionsRule(t *testing.T) {
	for n, ok := range map[int]bool{-1: false, 0: true, 1: true, 8: true, 9: false} {
		cfg := tunnelclient.Config{ServerURL: "http://localhost", ID: "a", Tokens: tunnelclient.StaticToken("t"), Connections: n}
		if err := cfg.Validate(); (err == nil) != ok {
			t.Errorf("%d: %v", n, err)
		}
	}
}
