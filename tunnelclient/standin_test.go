package tunnelclient_test

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// ofSeveral is a fake node of several, whose clients ping after 5 s of silence.
func ofSeveral(t *testing.T) (*fakeService, tunnelclient.Config) {
	s := newFakeService(t)
	s.ping = "interval=5, timeout=5"
	return s, s.config(tunnelclient.StaticToken("t1"))
}

// A node falls silent, with a request in flight: another session is there before the
// ping has had its time. The first one goes on until then.
func TestStandIn(t *testing.T) {
	for _, tt := range []struct{ quiet, after time.Duration }{ // since the last request
		{0, 3500 * time.Millisecond}, // by an early ping
		{time.Second, 2500 * time.Millisecond},
		{4 * time.Second, 2500 * time.Millisecond}, // by that of HTTP/2
		{6 * time.Second, 5500 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, cfg := ofSeveral(t)
			var cut atomic.Bool
			r := serve(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					<-r.Context().Done()
					cut.Store(true)
				}
				hello(w, r)
			}))
			old := s.next()
			go old.get("/slow")
			pass(time.Hour + 2*time.Second) // no ping is under way
			old.expect("/", "hello /")
			pass(tt.quiet)
			s.ln.toService().lose()
			s.ln.toClient().lose()
			begun := time.Now()
			fresh := s.next()
			if d := time.Since(begun); d < tt.after-500*time.Millisecond || d > tt.after+50*time.Millisecond {
				t.Errorf("%v after the last byte: the second session came after %v, want up to %v", tt.quiet, d, tt.after)
			}
			fresh.expect("/new", "hello /new")
			if cut.Load() {
				t.Error("a request in flight was cut")
			}
			pass(10 * time.Second)
			if !cut.Load() {
				t.Error("the silent session lives on")
			}
			for range 100 {
				pass(time.Minute)
				fresh.expect("/new", "hello /new")
			}
			if n := len(s.attempts()); n != 2 {
				t.Errorf("%d handshakes, want 2", n)
			}
			for _, st := range r.seen()[1:] {
				if st.Phase != tunnelclient.PhaseConnected || st.Err != nil {
					t.Errorf("state %+v", st)
				}
			}
		})
	}
}

// No service is asked for a second session that does not say that it has other nodes,
// and none by a client that does not ping.
func TestNoStandIn(t *testing.T) {
	for _, tt := range []struct {
		told     string
		interval time.Duration
	}{{"", 5 * time.Second}, {"interval=5, timeout=5", -1}} {
		synctest.Test(t, func(t *testing.T) {
			s := newFakeService(t)
			s.ping = tt.told
			cfg := s.config(tunnelclient.StaticToken("t1"))
			cfg.PingInterval = tt.interval
			serve(t, cfg, hello)
			s.next()
			synctest.Wait()
			s.ln.toClient().lose()
			pass(10 * time.Second)
			if n := len(s.attempts()); n != 1 {
				t.Errorf("told %q, with %v: %d handshakes within 10 s", tt.told, tt.interval, n)
			}
		})
	}
}

// Whatever comes while the service has not admitted the second session ends the
// attempt.
func TestStandInAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := ofSeveral(t)
		abandoned := make(chan struct{})
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n == 1 {
				return true
			}
			http.NewResponseController(w).EnableFullDuplex()
			pass(time.Second) // the client is gone then
			close(abandoned)
			return false
		}
		serve(t, cfg, hello)
		fs := s.next()
		pass(time.Hour + 2*time.Second)
		toClient := s.ln.toClient()
		fs.expect("/", "hello /")
		toClient.hold()
		pass(7 * time.Second) // one more since the ping's time
		if n := len(s.attempts()); n != 2 {
			t.Fatalf("%d handshakes, want 2", n)
		}
		toClient.release()
		<-abandoned
		pass(10 * time.Second)
		fs.expect("/", "hello /")
		if n := len(s.attempts()); n != 2 {
			t.Errorf("%d handshakes, want 2", n)
		}
	})
}

// The second session's connection may lead to the silent node as well: another one is
// made soon, and the client has a session before the first has ended.
func TestStandInAtSilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := ofSeveral(t)
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n == 2 {
				pass(10 * time.Second)
			}
			return n != 2
		}
		serve(t, cfg, hello)
		fs := s.next()
		pass(time.Hour + 2*time.Second)
		fs.expect("/", "hello /")
		s.ln.toClient().lose()
		begun := time.Now()
		s.next().expect("/", "hello /")
		if d := time.Since(begun); d > 8500*time.Millisecond {
			t.Errorf("the second session came after %v", d)
		}
		if n := len(s.attempts()); n != 3 {
			t.Errorf("%d handshakes, want 3", n)
		}
		pass(10 * time.Second)
	})
}

// The network loses all packets for a while: there is no way for a second session
// either, so the first one goes on, and nobody is asked for more when it is over.
func TestStandInNotOnBadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := ofSeveral(t)
		var mu sync.Mutex
		var bad bool
		dials := 0
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				mu.Lock()
				lost := bad
				dials++
				mu.Unlock()
				if lost {
					pass(time.Second) // the SYN is sent again
				}
				return s.ln.DialContext(ctx, network, addr)
			},
			DisableKeepAlives: true,
		}}
		serve(t, cfg, hello)
		fs := s.next()
		toClient := s.ln.toClient()
		for range 20 {
			pass(time.Hour + 2*time.Second) // no ping is under way
			fs.expect("/", "hello /")
			mu.Lock()
			bad = true
			mu.Unlock()
			toClient.hold()
			pass(8 * time.Second)
			mu.Lock()
			bad = false
			mu.Unlock()
			toClient.release()
		}
		pass(time.Minute)
		fs.expect("/", "hello /")
		if n := len(s.attempts()); n != 1 {
			t.Errorf("%d handshakes, want 1", n)
		}
		if dials != 21 {
			t.Errorf("%d connections tried, want one in each outage", dials-1)
		}
	})
}

// A service that answers pings late, because it has too much to do, is not given more
// of it: the client learns what is usual there.
func TestStandInsOfSlowService(t *testing.T) {
	for _, tt := range []struct {
		name string
		late func(n int) time.Duration // answer n
		most int                       // handshakes in half a day
	}{
		{"always", func(int) time.Duration { return 3 * time.Second }, 3},
		{"often", func(n int) time.Duration { return time.Duration(n%5) * time.Second }, 40},
		// Once in ten minutes or so.
		{"at times", func(n int) time.Duration { return time.Duration(n/100%2) * time.Duration(n%100/99) * 4 * time.Second }, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, cfg := ofSeveral(t)
				serve(t, cfg, hello)
				day, over := context.WithTimeout(t.Context(), 12*time.Hour)
				defer over()
				active := s.next()
				var answers int
				for day.Err() == nil {
					select {
					case fs := <-s.sessions:
						old := active
						active = fs
						go func() { // as a node does when another one has the newer session
							pass(time.Minute)
							old.closeWith(wire.CloseReplaced)
						}()
					default:
					}
					toClient := s.ln.toClient()
					toClient.hold()
					pass(5*time.Second + tt.late(answers))
					answers++
					toClient.release()
					pass(time.Millisecond)
				}
				n := len(s.attempts())
				t.Logf("%d handshakes in half a day, %d pings", n, answers)
				if n > tt.most || n < 2 {
					t.Errorf("%d handshakes in half a day, want 2 to %d", n, tt.most)
				}
				active.expect("/", "hello /")
				pass(time.Minute)
			})
		})
	}
}

// What the service says about when to come again counts.
func TestStandInRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := ofSeveral(t)
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n == 2 {
				refusal{status: 503, retryAfter: "600"}.write(w)
			}
			return n != 2
		}
		serve(t, cfg, hello)
		fs := s.next()
		toClient := s.ln.toClient()
		begun := time.Now()
		for len(s.attempts()) < 3 {
			pass(202 * time.Second) // to forget how slow the last answer was
			fs.expect("/", "hello /")
			toClient.hold()
			pass(8 * time.Second)
			toClient.release()
			if time.Since(begun) > time.Hour {
				t.Fatal("no further attempt")
			}
		}
		if d := time.Since(begun); d < 600*time.Second {
			t.Errorf("asked again after %v", d)
		}
		s.next().expect("/", "hello /")
	})
}

// An idle session has no pings but those of HTTP/2, and one in use has few more.
func TestStandInCostsIdleNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := ofSeveral(t)
		serve(t, cfg, hello)
		fs := s.next()
		toService := s.ln.toService()
		fs.expect("/", "hello /")
		pass(20 * time.Second)
		before := toService.written()
		pass(1000 * time.Second)
		if n := toService.written() - before; n < 195 || n > 205 {
			t.Errorf("%d writes in 1000 s, want one every 5 s", n)
		}
	})
}

// Nodes fall silent one after the other: the second session is there as soon each time.
func TestStandInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, cfg := ofSeveral(t)
		serve(t, cfg, hello)
		fs := s.next()
		for i := range 20 {
			pass(22 * time.Second)
			fs.expect("/", "hello /")
			pass(3 * time.Second)
			s.ln.toService().lose()
			s.ln.toClient().lose()
			begun := time.Now()
			fs = s.next()
			if d := time.Since(begun); d > 3600*time.Millisecond {
				t.Errorf("loss %d: the second session came after %v", i, d)
			}
		}
	})
}
