package tunnelclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestMaxStreams: the service learns how many requests a session takes.
func TestMaxStreams(t *testing.T) {
	for _, tt := range []struct {
		set  int
		want uint32
	}{{0, 250}, {20, 20}} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			cfg := s.config(tunnelclient.StaticToken("t1"))
			cfg.MaxStreams = tt.set
			r := serve(t, cfg, hello)
			fs := s.next()
			if err := fs.asking.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n, ok := fs.asking.MaxConcurrentStreams(); n != tt.want || !ok {
				t.Errorf("with %d set the session takes %d (%v), want %d", tt.set, n, ok, tt.want)
			}
			r.stop()
		})
	}
}

func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		u, err := r.client.URL(t.Context())
		if err != nil || u != testURL {
			t.Errorf("URL: %q, %v", u, err)
		}
		fs := s.next()
		fs.expect("/a", "hello /a")
		if err := r.client.Serve(t.Context(), hello); err == nil || !strings.Contains(err.Error(), "already running") {
			t.Errorf("second Serve: %v", err)
		}
		r.stop()
		if m := <-fs.controls; m.Type != wire.TypeGoaway {
			t.Errorf("at the end the client sent %q, want goaway", m.Type)
		}
		var phases []tunnelclient.Phase
		for _, st := range r.seen() {
			phases = append(phases, st.Phase)
		}
		want := []tunnelclient.Phase{tunnelclient.PhaseConnecting, tunnelclient.PhaseConnected, tunnelclient.PhaseDraining}
		if !slices.Equal(phases, want) {
			t.Errorf("phases %v, want %v", phases, want)
		}

		// A Client can serve again.
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.client.Serve(ctx, hello) }()
		fs = s.next()
		fs.expect("/b", "hello /b")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestURLWithoutTunnel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.admit = func(_ int, _ string, w http.ResponseWriter) bool {
			http.Error(w, "no such thing", http.StatusBadRequest)
			return false
		}
		c, err := tunnelclient.New(s.config(tunnelclient.StaticToken("t1")))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.URL(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("before Serve: %v", err)
		}
		got := make(chan error)
		go func() {
			_, err := c.URL(context.Background())
			got <- err
		}()
		served := c.Serve(t.Context(), hello)
		if err := <-got; err == nil || err != served {
			t.Errorf("URL: %v; Serve: %v", err, served)
		}
	})
}

// Requests in flight are finished after ctx has ended, and no new session is
// opened for them.
func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name    string
		timeout time.Duration
		takes   time.Duration
		ok      bool
		lasts   time.Duration // at most
	}{
		{"finishes", 0, 5 * time.Second, true, 7 * time.Second},
		{"runs out", 3 * time.Second, time.Hour, false, 5 * time.Second},
		{"none", -1, time.Hour, false, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				cfg := s.config(tunnelclient.StaticToken("t1"))
				cfg.DrainTimeout = tt.timeout
				started := make(chan struct{})
				r := serve(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(started)
					select {
					case <-time.After(tt.takes):
						io.WriteString(w, "done")
					case <-r.Context().Done():
					}
				}))
				fs := s.next()
				answer := make(chan error, 1)
				go func() {
					got, err := fs.get("/")
					if err == nil && got != "done" {
						err = fmt.Errorf("body %q", got)
					}
					answer <- err
				}()
				<-started
				begin := time.Now()
				r.stop()
				if d := time.Since(begin); d > tt.lasts {
					t.Errorf("Serve took %v to end, want at most %v", d, tt.lasts)
				}
				if err := <-answer; (err == nil) != tt.ok {
					t.Errorf("the request in flight: %v", err)
				}
				if n := len(s.attempts()); n != 1 {
					t.Errorf("%d handshakes, want 1", n)
				}
			})
		})
	}
}

// The service asks for a new session: it is opened after the delay, while the
// old one answers what is in flight and what still comes.
func TestMakeBeforeBreak(t *testing.T) {
	for _, reason := range []string{wire.ReasonDraining, wire.ReasonOverloaded} {
		t.Run(reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				started, release := make(chan struct{}), make(chan struct{})
				r := serve(t, s.config(tunnelclient.StaticToken("t1")), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/slow" {
						close(started)
						<-release
					}
					hello(w, r)
				}))
				old := s.next()
				var wg sync.WaitGroup
				wg.Go(func() { old.expect("/slow", "hello /slow") })
				<-started

				begin := time.Now()
				old.send(wire.Control{Type: wire.TypeGoaway, Reason: reason, ReconnectAfterMS: 7000})
				fresh := s.next()
				if d := time.Since(begin); d != 7*time.Second {
					t.Errorf("reconnected after %v, want 7s", d)
				}
				fresh.expect("/new", "hello /new")
				old.expect("/late", "hello /late")
				close(release)
				wg.Wait()
				old.closeWith(wire.CloseDraining)
				synctest.Wait()
				pass(2 * time.Minute) // on the bubble's clock: nothing more happens
				if n := len(s.attempts()); n != 2 {
					t.Errorf("%d handshakes, want 2", n)
				}
				fresh.expect("/new", "hello /new")
				states := r.seen()
				if st := states[2]; st.Phase != tunnelclient.PhaseDraining || !st.Next.Equal(begin.Add(7*time.Second)) || !strings.Contains(st.Reason, reason) {
					t.Errorf("state after goaway: %+v", st)
				}
				r.stop()
			})
		})
	}
}

// If the old session is lost before the delay is over, the delay still counts:
// the service spreads its clients with it.
func TestGoawayDelayOutlivesSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		fs := s.next()
		begin := time.Now()
		fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonOverloaded, ReconnectAfterMS: 20000})
		synctest.Wait()
		fs.closeWith(wire.CloseOverloaded)
		s.next()
		if d := time.Since(begin); d < 20*time.Second || d > 21*time.Second {
			t.Errorf("reconnected after %v, want 20s", d)
		}
	})
}

// A service that drains refuses new sessions while it still serves the old
// ones. When it has closed the last, the wait for the next attempt is short
// again, however often it has refused.
func TestDrainingServiceGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n > 1 && n < 12 {
				http.Error(w, "the service is shutting down", http.StatusServiceUnavailable)
				return false
			}
			return true
		}
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		old := s.next()
		old.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining})
		for len(s.attempts()) < 11 { // the next one will succeed, in 30 s
			pass(time.Second)
		}
		begin := time.Now()
		old.closeWith(wire.CloseDraining)
		s.next()
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("reconnected after %v", d)
		}
	})
}

// A service that asks for new sessions and closes none cannot pile them up.
func TestRetiredSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		first := s.next()
		fs := first
		for range 5 {
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining})
			fs = s.next()
		}
		<-first.conn.Done()
		fs.expect("/", "hello /")
	})
}

// A service that sends every session away at once, without a delay, is not
// asked for the next one without a pause for long, and its sessions do not pile
// up.
func TestGoawaysWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		const n = 60
		var sessions []*fakeSession
		begun := time.Now()
		for range n {
			fs := s.next()
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining})
			sessions = append(sessions, fs)
		}
		if d := time.Since(begun); d < 2*time.Minute {
			t.Errorf("%d sessions within %v", n, d)
		}
		open := 0
		for _, fs := range sessions {
			select {
			case <-fs.conn.Done():
			default:
				open++
			}
		}
		if open > 6 {
			t.Errorf("%d sessions are open", open)
		}
	})
}

// When its successor is there a session says that it may go.
func TestFormerSessionTakesItsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		old := s.next()
		<-time.After(time.Minute)
		old.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining, ReconnectAfterMS: 3000})
		begun := time.Now()
		s.next()
		connected := time.Now()
		if m := <-old.controls; m.Type != wire.TypeGoaway || time.Since(connected) > 5*time.Second {
			t.Errorf("got %+v %v after the new session", m, time.Since(connected))
		}
		old.expect("/", "hello /") // what still comes
		if d := connected.Sub(begun); d < 3*time.Second || d > 4*time.Second {
			t.Errorf("connected after %v", d)
		}
	})
}

func TestTokenRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		pr, pw := io.Pipe()
		defer pw.Close()
		r := serve(t, s.config(tunnelclient.TokenReader(pr)), hello)
		fmt.Fprintln(pw, "t1")
		fs := s.next()
		if fs.token != "t1" {
			t.Errorf("registered with %q", fs.token)
		}
		fmt.Fprintln(pw, "t2")
		if tok := fs.answerToken(true); tok != "t2" {
			t.Errorf("refreshed with %q", tok)
		}
		fmt.Fprintln(pw, "bad")
		if tok := fs.answerToken(false); tok != "bad" {
			t.Errorf("refreshed with %q", tok)
		}
		synctest.Wait()
		states := r.seen()
		last := states[len(states)-1]
		if last.Phase != tunnelclient.PhaseConnected || last.Err == nil || strings.Contains(last.Err.Error(), "bad") {
			t.Errorf("state after the refusal: %+v", last)
		}
		// No answer at all holds nothing up for ever.
		fmt.Fprintln(pw, "t3")
		if m := <-fs.controls; m.Token != "t3" {
			t.Errorf("refreshed with %q", m.Token)
		}
		fmt.Fprintln(pw, "t4")
		if tok := fs.answerToken(true); tok != "t4" {
			t.Errorf("refreshed with %q", tok)
		}
		fs.expect("/", "hello /")
		if n := len(s.attempts()); n != 1 {
			t.Errorf("%d handshakes, want 1", n)
		}
		// The newest token is the one for the next session.
		fs.asking.Close()
		if fs = s.next(); fs.token != "t4" {
			t.Errorf("reconnected with %q", fs.token)
		}
		r.stop()
	})
}

// A token that is too long for a control message is not sent.
func TestTokenTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		pr, pw := io.Pipe()
		defer pw.Close()
		serve(t, s.config(tunnelclient.TokenReader(pr)), hello)
		fmt.Fprintln(pw, "t1")
		fs := s.next()
		fmt.Fprintln(pw, strings.Repeat("x", wire.MaxControlMessage))
		fmt.Fprintln(pw, "t2")
		if tok := fs.answerToken(true); tok != "t2" {
			t.Errorf("refreshed with %q", tok)
		}
	})
}

// sequence is a token source that cannot announce fresh tokens: a new one
// appears with every call of next.
type sequence struct {
	mu sync.Mutex
	n  int
}

func (s *sequence) Token(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint("t", s.n), nil
}

func (s *sequence) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
}

func TestGoawayExpired(t *testing.T) {
	t.Run("fresh token taken", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			src := &sequence{}
			serve(t, s.config(src), hello)
			fs := s.next()
			src.next()
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
			if tok := fs.answerToken(true); tok != "t1" {
				t.Errorf("refreshed with %q", tok)
			}
			pass(time.Minute)
			if n := len(s.attempts()); n != 1 {
				t.Errorf("%d handshakes, want 1", n)
			}
			fs.expect("/", "hello /")
		})
	})
	t.Run("fresh token refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			src := &sequence{}
			serve(t, s.config(src), hello)
			fs := s.next()
			src.next()
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
			fs.answerToken(false)
			if next := s.next(); next.token != "t1" {
				t.Errorf("new session with %q", next.token)
			}
			fs.expect("/", "hello /")
		})
	})
	t.Run("no fresh token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			src := &sequence{}
			serve(t, s.config(src), hello)
			fs := s.next()
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
			pass(time.Minute)
			if n := len(s.attempts()); n != 1 {
				t.Errorf("%d handshakes with the token that runs out, want 1", n)
			}
			src.next()
			fs.closeWith(wire.CloseTokenExpired)
			if fs = s.next(); fs.token != "t1" {
				t.Errorf("reconnected with %q", fs.token)
			}
		})
	})
}

// The evicted side waits longer each time, also when its sessions live longer
// than the ordinary curve needs to start again.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		var waits []time.Duration
		for range 6 {
			fs := s.next()
			pass(20 * time.Second)
			fs.closeWith(wire.CloseReplaced)
			<-fs.conn.Done()
			begin := time.Now()
			next := s.next()
			waits = append(waits, time.Since(begin))
			s.sessions <- next
		}
		want := []time.Duration{5, 10, 20, 40, 60, 60}
		for i := range want {
			if waits[i] != want[i]*time.Second {
				t.Fatalf("waits %v, want %v in seconds", waits, want)
			}
		}
		// A tunnel that was left alone for long starts anew.
		fs := s.next()
		pass(10*time.Minute + time.Second)
		fs.closeWith(wire.CloseReplaced)
		<-fs.conn.Done()
		begin := time.Now()
		s.next()
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("after a long life: %v, want 5s", d)
		}
	})
}

// Lost sessions follow the ordinary curve, which starts again only after a
// session that has lived.
func TestLostSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		for _, tt := range []struct {
			lived, want time.Duration
		}{
			{0, 1}, {9, 2}, {0, 4}, {0, 8}, {0, 16}, {0, 30}, {0, 30}, {10, 1}, {0, 2}, {3600, 1},
		} {
			fs := s.next()
			pass(tt.lived * time.Second)
			fs.asking.Close()
			<-fs.conn.Done()
			begin := time.Now()
			next := s.next()
			if d := time.Since(begin); d != tt.want*time.Second {
				t.Errorf("after a session of %d s: waited %v, want %d s", tt.lived, d, tt.want)
			}
			s.sessions <- next
		}
	})
}

// A session that lives for some seconds has its next one soon, however often that
// happens: services that are killed in turn keep no tunnel away for long. The waits are
// spread over as much time as the sessions had, so that a service that breaks down under
// those who come back gets them more slowly.
func TestBriefSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		refuse := 0 // attempts
		s.admit = func(_ int, _ string, w http.ResponseWriter) bool {
			if refuse--; refuse < 0 {
				return true
			}
			w.WriteHeader(http.StatusBadGateway)
			return false
		}
		serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		for i, tt := range []struct {
			lived   time.Duration
			refused int
			want    time.Duration
		}{
			{3, 0, 1},
			{3, 0, 2},
			{3, 0, 3},
			{3, 0, 3},
			{8, 0, 4},
			{8, 0, 8},
			{2, 0, 2},
			{5, 1, 5 + 5},
			{5, 3, 5 + 5 + 16 + 30}, // an outage of its own
			{3, 0, 3},
			{1, 0, 3}, // a little later, in the same outage
			{1, 0, 3},
			{1, 0, 30},
			{10, 0, 1},
		} {
			fs := s.next()
			pass(tt.lived * time.Second)
			refuse = tt.refused
			fs.asking.Close()
			<-fs.conn.Done()
			begin := time.Now()
			next := s.next()
			if d := time.Since(begin); d != tt.want*time.Second {
				t.Errorf("%d: after a session of %d s: waited %v, want %d s", i, tt.lived, d, tt.want)
			}
			s.sessions <- next
		}
	})
}

func TestEvicted(t *testing.T) {
	t.Run("same token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
			fs := s.next()
			fs.closeWith(wire.CloseEvicted)
			if err := wantEvicted(t, s, r); err != nil && !strings.Contains(err.Error(), "operator") {
				t.Errorf("Serve: %v", err)
			}
		})
	})
	t.Run("newer token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			src := &sequence{}
			r := serve(t, s.config(src), hello)
			fs := s.next()
			src.next()
			fs.closeWith(wire.CloseEvicted)
			if fs = s.next(); fs.token != "t1" {
				t.Errorf("reconnected with %q", fs.token)
			}
			r.stop()
		})
	})
	t.Run("while a new session is opened", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
			fs := s.next()
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonDraining, ReconnectAfterMS: 5000})
			synctest.Wait()
			fs.closeWith(wire.CloseEvicted)
			wantEvicted(t, s, r)
		})
	})
}

// The service is gone for a while and comes back.
func TestServiceRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		var mu sync.Mutex
		down := true
		cfg := s.config(tunnelclient.StaticToken("t1"))
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				if down {
					return nil, errors.New("connection refused by test")
				}
				return s.ln.DialContext(ctx, network, addr)
			},
			DisableKeepAlives: true,
		}}
		r := serve(t, cfg, hello)
		pass(20 * time.Minute)
		mu.Lock()
		down = false
		mu.Unlock()
		begin := time.Now()
		fs := s.next()
		if d := time.Since(begin); d > 30*time.Second {
			t.Errorf("came back after %v", d)
		}
		fs.expect("/", "hello /")
		r.stop()
		var waits int
		for _, st := range r.seen() {
			if st.Phase == tunnelclient.PhaseWaiting {
				waits++
				if st.Err == nil || !strings.Contains(st.Err.Error(), "refused by test") {
					t.Errorf("the cause is lost: %v", st.Err)
				}
			}
		}
		if waits < 40 || waits > 50 {
			t.Errorf("%d attempts in 20 minutes", waits)
		}
	})
}

// D1 of the predecessor: a client that was told to stop while it dialled or
// waited came back as a zombie.
func TestStopWhileDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.answer = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		pass(time.Second)
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d > time.Second {
			t.Errorf("Serve took %v to end", d)
		}
	})
}

func TestStopWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		s.admit = func(_ int, _ string, w http.ResponseWriter) bool {
			w.Header().Set("Retry-After", "600")
			http.Error(w, "full", http.StatusServiceUnavailable)
			return false
		}
		r := serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
		pass(time.Minute)
		begin := time.Now()
		r.stop()
		if d := time.Since(begin); d != 0 {
			t.Errorf("Serve took %v to end", d)
		}
	})
}

func TestStopWhileWaitingForToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		pr, pw := io.Pipe()
		defer pw.Close()
		r := serve(t, s.config(tunnelclient.TokenReader(pr)), hello)
		synctest.Wait()
		r.stop()
	})
}

// A handler that panics or asks for the connection to be closed does not take
// the tunnel along.
func TestHandlerFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		serve(t, s.config(tunnelclient.StaticToken("t1")), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/panic":
				panic("oh")
			case "/abort":
				panic(http.ErrAbortHandler)
			case "/close":
				w.Header().Set("Connection", "close")
			}
			hello(w, r)
		}))
		fs := s.next()
		for _, path := range []string{"/panic", "/abort"} {
			if _, err := fs.get(path); err == nil {
				t.Errorf("GET %s: no error", path)
			}
		}
		fs.expect("/close", "hello /close")
		synctest.Wait()
		fs.expect("/", "hello /")
	})
}

func TestH2ConnConfigIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		cfg := s.config(tunnelclient.StaticToken("t1"))
		cfg.PingInterval, cfg.PingTimeout = 3*time.Second, time.Second
		serve(t, cfg, hello)
		fs := s.next()
		fs.expect("/", "hello /")
		pass(time.Minute) // a live peer answers the pings
		fs.expect("/", "hello /")
	})
}
