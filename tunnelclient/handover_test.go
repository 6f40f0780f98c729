package tunnelclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// load asks a tunnel without a pause. As in the service, requests go to the
// newest session, and an older one ends when it has none left.
type load struct {
	t    *testing.T
	wg   sync.WaitGroup
	stop chan struct{}

	mu      sync.Mutex
	session *fakeSession
	flying  map[*fakeSession]int
	done    int
}

func newLoad(t *testing.T, first *fakeSession) *load {
	l := &load{t: t, stop: make(chan struct{}), session: first, flying: map[*fakeSession]int{}}
	for range 5 {
		l.wg.Go(l.run)
	}
	return l
}

func (l *load) run() {
	for {
		select {
		case <-l.stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		l.mu.Lock()
		fs := l.session
		l.flying[fs]++
		l.mu.Unlock()
		fs.expect("/load", "hello /load")
		l.mu.Lock()
		l.flying[fs]--
		l.done++
		l.mu.Unlock()
	}
}

// change sends further requests to fs and closes the session before it with
// code as soon as it has none in flight.
func (l *load) change(fs *fakeSession, code wire.CloseCode) {
	l.mu.Lock()
	old := l.session
	l.session = fs
	for l.flying[old] > 0 {
		l.mu.Unlock()
		pass(time.Millisecond)
		l.mu.Lock()
	}
	l.mu.Unlock()
	old.closeWith(code)
}

// end stops the load and returns how many requests there were.
func (l *load) end() int {
	close(l.stop)
	l.wg.Wait()
	return l.done
}

// slowly is hello for requests that are in flight for a while.
var slowly = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	pass(50 * time.Millisecond)
	hello(w, r)
})

// No request fails while a session takes the place of another, also if the
// service cannot take the new one at once.
func TestHandover(t *testing.T) {
	yes := true
	no := false
	for _, tt := range []struct {
		name   string
		goaway wire.Control
		answer *bool // to the fresh token; nil: none
		code   wire.CloseCode
	}{
		{"draining", wire.Control{Reason: wire.ReasonDraining, ReconnectAfterMS: 3000}, nil, wire.CloseDraining},
		{"draining now", wire.Control{Reason: wire.ReasonDraining}, nil, wire.CloseDraining},
		{"overloaded", wire.Control{Reason: wire.ReasonOverloaded, ReconnectAfterMS: 3000}, nil, wire.CloseOverloaded},
		{"a reason from a later version", wire.Control{Reason: "maintenance"}, nil, wire.CloseDraining},
		{"fresh token refused", wire.Control{Reason: wire.ReasonExpired}, &no, wire.CloseReplaced},
		{"fresh token not answered", wire.Control{Reason: wire.ReasonExpired}, nil, wire.CloseReplaced},
		{"fresh token taken", wire.Control{Reason: wire.ReasonExpired}, &yes, 0},
	} {
		for _, refusals := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, %d refusals", tt.name, refusals), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newFakeService(t)
					s.admit = func(n int, _ string, w http.ResponseWriter) bool {
						if n > 1 && n <= 1+refusals {
							refusal{status: 503, retryAfter: "1"}.write(w)
							return false
						}
						return true
					}
					src := &sequence{}
					r := serve(t, s.config(src), slowly)
					old := s.next()
					l := newLoad(t, old)
					pass(10 * time.Second)
					src.next()
					tt.goaway.Type = wire.TypeGoaway
					old.send(tt.goaway)
					if tt.goaway.Reason == wire.ReasonExpired {
						if m := old.control(); m.Token != "t1" {
							t.Errorf("the client sent %q", m.Token)
						}
						if tt.answer != nil {
							old.send(wire.Control{Type: wire.TypeToken, OK: tt.answer})
						}
					}
					if tt.code != 0 {
						fresh := s.next()
						l.change(fresh, tt.code)
					}
					pass(10 * time.Second)
					if n := l.end(); n < 500 {
						t.Errorf("only %d requests", n)
					}
					want := 2 + refusals
					if tt.code == 0 {
						want = 1
					}
					if n := len(s.attempts()); n != want {
						t.Errorf("%d handshakes, want %d", n, want)
					}
					told := false
					for _, st := range r.seen() {
						if st.Phase == tunnelclient.PhaseWaiting {
							t.Errorf("the tunnel was down: %+v", st)
						}
						told = told || st.Phase == tunnelclient.PhaseConnected && st.Err != nil
					}
					if expired := tt.goaway.Reason == wire.ReasonExpired; told != (expired && tt.code != 0) {
						t.Errorf("told of a refusal: %v", told)
					}
				})
			})
		}
	}
}

// A network that changes under load: nothing fails while both are there.
func TestHandoverToNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
		serve(t, cfg, slowly)
		l := newLoad(t, s.next())
		for i := range 4 {
			pass(20 * time.Second)
			n.set(home, office)
			if i%2 == 0 {
				n.set(office, home)
			}
			l.change(s.next(), wire.CloseReplaced)
		}
		l.end()
		if n := len(s.attempts()); n != 5 {
			t.Errorf("%d handshakes, want 5", n)
		}
	})
}

// A fresh token goes over the live session whatever it comes from: announced
// by the source, or fetched when the service says that the old one runs out.
func TestRefreshFromEverySource(t *testing.T) {
	type source struct {
		tunnelclient.TokenSource
		renew    func() // makes t2 the newest token
		announce bool
	}
	for _, tt := range []struct {
		name string
		make func(t *testing.T) source
	}{
		{"TokenReader", func(t *testing.T) source {
			pr, pw := io.Pipe()
			t.Cleanup(func() { pw.Close() })
			go io.WriteString(pw, "t1\n")
			return source{tunnelclient.TokenReader(pr), func() { go io.WriteString(pw, "t2\n") }, true}
		}},
		{"TokenFile", func(t *testing.T) source {
			path := filepath.Join(t.TempDir(), "token")
			write := func(tok string) {
				if err := os.WriteFile(path, []byte(tok), 0o600); err != nil {
					t.Error(err)
				}
			}
			write("t1")
			return source{tunnelclient.TokenFile(path), func() { write("t2") }, true}
		}},
		{"TokenFunc", func(*testing.T) source {
			var mu sync.Mutex
			tok := "t1"
			f := func(context.Context) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				return tok, nil
			}
			return source{tunnelclient.TokenFunc(f), func() {
				mu.Lock()
				defer mu.Unlock()
				tok = "t2"
			}, false}
		}},
		// A source that is asked has nothing at first.
		{"TokenFunc that fails first", func(*testing.T) source {
			var mu sync.Mutex
			asked, renewed := 0, false
			f := func(context.Context) (string, error) {
				mu.Lock()
				defer mu.Unlock()
				if !renewed {
					return "t1", nil
				}
				switch asked++; asked {
				case 1:
					return "", errors.New("the vault is sealed")
				case 2:
					return "t1", nil
				}
				return "t2", nil
			}
			return source{tunnelclient.TokenFunc(f), func() {
				mu.Lock()
				defer mu.Unlock()
				renewed = true
			}, false}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFakeService(t)
				src := tt.make(t)
				r := serve(t, s.config(src.TokenSource), hello)
				fs := s.next()
				if fs.token != "t1" {
					t.Errorf("registered with %q", fs.token)
				}
				pass(time.Hour)
				src.renew()
				if !src.announce {
					pass(time.Hour)
					fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
				}
				begin := time.Now()
				if tok := fs.answerToken(true); tok != "t2" {
					t.Errorf("refreshed with %q", tok)
				}
				if d := time.Since(begin); d > 30*time.Second {
					t.Errorf("refreshed after %v", d)
				}
				pass(2 * time.Minute)
				fs.expect("/", "hello /")
				if n := len(s.attempts()); n != 1 {
					t.Errorf("%d handshakes, want 1", n)
				}
				for _, st := range r.seen() {
					if st.Err != nil {
						t.Errorf("state %+v", st)
					}
				}
			})
		})
	}
	t.Run("StaticToken has none", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			serve(t, s.config(tunnelclient.StaticToken("t1")), hello)
			fs := s.next()
			fs.send(wire.Control{Type: wire.TypeGoaway, Reason: wire.ReasonExpired})
			pass(time.Minute)
			if n := len(fs.controls); n != 0 {
				t.Errorf("%d control messages", n)
			}
		})
	})
}

// A fresh token that the service refuses, or does not answer, is reported, and
// the tunnel goes on with the old one. The next one has its chance.
func TestRefusedRefreshIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		pr, pw := io.Pipe()
		defer pw.Close()
		r := serve(t, s.config(tunnelclient.TokenReader(pr)), hello)
		fmt.Fprintln(pw, "t1")
		fs := s.next()
		last := func(says string) {
			t.Helper()
			states := r.seen()
			st := states[len(states)-1]
			if st.Phase != tunnelclient.PhaseConnected || st.Err == nil || !strings.Contains(st.Err.Error(), says) {
				t.Errorf("state %+v, want an error with %q", st, says)
			}
		}
		fmt.Fprintln(pw, "t2")
		fs.answerToken(false)
		synctest.Wait()
		last("refused the fresh token")
		fmt.Fprintln(pw, "t3")
		fs.control()
		pass(11 * time.Second)
		last("did not answer the fresh token")
		fmt.Fprintln(pw, "t4")
		if tok := fs.answerToken(true); tok != "t4" {
			t.Errorf("refreshed with %q", tok)
		}
		fs.expect("/", "hello /")
		if n := len(s.attempts()); n != 1 {
			t.Errorf("%d handshakes, want 1", n)
		}
	})
}
