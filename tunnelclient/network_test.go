package tunnelclient_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

var (
	home   = netip.MustParseAddr("192.168.1.7")
	office = netip.MustParseAddr("10.1.2.3")
)

// fakeNetwork is a machine's network. Connections of the service's clients
// come from the address that it prefers.
type fakeNetwork struct {
	ln *memListener

	mu     sync.Mutex
	prefer netip.Addr // zero: there is no way to the service
	has    []netip.Addr
}

// set makes has the machine's addresses, and the first the one to connect from.
func (n *fakeNetwork) set(has ...netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.prefer, n.has = netip.Addr{}, has
	if len(has) > 0 {
		n.prefer = has[0]
		n.ln.dialFrom(n.prefer)
	}
}

// cut leaves no way to the service.
func (n *fakeNetwork) cut(has ...netip.Addr) {
	n.set(has...)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.prefer = netip.Addr{}
}

func (n *fakeNetwork) Source(remote netip.AddrPort) (netip.Addr, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.prefer, n.prefer.IsValid() && remote == serviceAddr.AddrPort()
}

func (n *fakeNetwork) Addresses() []netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]netip.Addr{netip.MustParseAddr("127.0.0.1")}, n.has...)
}

// onNetwork is a fake service and a config that reaches it from home.
func onNetwork(t *testing.T, tokens tunnelclient.TokenSource) (*fakeService, *fakeNetwork, tunnelclient.Config) {
	s := newFakeService(t)
	n := &fakeNetwork{ln: s.ln}
	n.set(home)
	cfg := s.config(tokens)
	cfg.SetNetwork(n)
	return s, n, cfg
}

// The machine changes to another network: a new session is opened first, and
// what is in flight on the old one completes.
func TestNetworkChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
		started, release := make(chan struct{}), make(chan struct{})
		r := serve(t, cfg, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

		pass(time.Hour)
		begin := time.Now()
		n.set(office, home)
		fresh := s.next()
		if d := time.Since(begin); d > 4*time.Second {
			t.Errorf("the new session came after %v", d)
		}
		fresh.expect("/new", "hello /new")
		old.expect("/late", "hello /late")
		// Only when the new one has proved good is the old one given up.
		begin = time.Now()
		if m := old.control(); m.Type != wire.TypeGoaway {
			t.Errorf("the old session got %q", m.Type)
		}
		if d := time.Since(begin); d < 5*time.Second || d > 10*time.Second {
			t.Errorf("the goaway came after %v", d)
		}
		close(release)
		wg.Wait()
		old.closeWith(wire.CloseReplaced)
		pass(time.Hour)
		if n := len(s.attempts()); n != 2 {
			t.Errorf("%d handshakes, want 2", n)
		}
		fresh.expect("/new", "hello /new")
		for _, st := range r.seen()[1:] {
			if st.Phase != tunnelclient.PhaseConnected || st.Err != nil {
				t.Errorf("state %+v", st)
			}
		}
	})
}

// What is a change of network, and what is none.
func TestNetworkChangeKinds(t *testing.T) {
	v6, private, elsewhere := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:1::2")
	linkLocal := netip.MustParseAddr("fe80::1")
	for _, tt := range []struct {
		name     string
		from     []netip.Addr
		change   func(*fakeNetwork)
		replaced bool
	}{
		{"another address", []netip.Addr{home}, func(n *fakeNetwork) { n.set(office) }, true},
		{"another is preferred", []netip.Addr{home}, func(n *fakeNetwork) { n.set(office, home) }, true},
		{"another is not preferred", []netip.Addr{home}, func(n *fakeNetwork) { n.set(home, office) }, false},
		{"no network", []netip.Addr{home}, func(n *fakeNetwork) { n.cut() }, false},
		{"no way, but the address", []netip.Addr{home}, func(n *fakeNetwork) { n.cut(home, office) }, false},
		{"no way, link-local only", []netip.Addr{home}, func(n *fakeNetwork) { n.cut(linkLocal) }, false},
		// The service's other addresses may be reached from there.
		{"no way, another address", []netip.Addr{v6}, func(n *fakeNetwork) { n.cut(office) }, true},
		{"a new privacy address", []netip.Addr{v6}, func(n *fakeNetwork) { n.set(private, v6) }, false},
		{"the old privacy address is gone", []netip.Addr{v6}, func(n *fakeNetwork) { n.set(private) }, true},
		{"another IPv6 network", []netip.Addr{v6}, func(n *fakeNetwork) { n.set(elsewhere, v6) }, true},
		{"a moment", []netip.Addr{home}, func(n *fakeNetwork) {
			n.set(office)
			pass(2 * time.Second)
			n.set(home)
		}, false},
		{"to and fro", []netip.Addr{home}, func(n *fakeNetwork) {
			for range 5 {
				n.set(office)
				pass(2 * time.Second)
				n.set(elsewhere)
				pass(2 * time.Second)
			}
			n.set(home)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
				n.set(tt.from...)
				serve(t, cfg, hello)
				fs := s.next()
				pass(time.Minute + time.Millisecond) // out of step with the checks
				tt.change(n)
				pass(5 * time.Second)
				if got := len(s.attempts()) > 1; got != tt.replaced {
					t.Errorf("replaced: %v, want %v", got, tt.replaced)
				}
				fs.expect("/", "hello /")
			})
		})
	}
}

// A dialler that binds its connections has made its choice; only if that
// address goes away is there a reason to dial.
func TestNetworkOfBoundDialler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
		n.set(home, office)
		s.ln.dialFrom(office)
		serve(t, cfg, hello)
		fs := s.next()
		pass(time.Hour)
		n.set(netip.MustParseAddr("10.9.9.9"), home, office)
		pass(time.Hour)
		fs.expect("/", "hello /")
		if n := len(s.attempts()); n != 1 {
			t.Errorf("%d handshakes, want 1", n)
		}
		n.set(home)
		s.next()
	})
}

// The service cannot be reached from the new network: the session goes on, the
// token is still refreshed, attempts follow the back-off, and they end when
// the old network is back.
func TestNetworkChangeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		defer pw.Close()
		s, n, cfg := onNetwork(t, tunnelclient.TokenReader(pr))
		var mu sync.Mutex
		dials := 0
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				if src, _ := n.Source(serviceAddr.AddrPort()); src != home {
					mu.Lock()
					defer mu.Unlock()
					dials++
					return nil, errors.New("no way through this VPN")
				}
				return s.ln.DialContext(ctx, network, addr)
			},
			DisableKeepAlives: true,
		}}
		r := serve(t, cfg, hello)
		go io.WriteString(pw, "t1\n")
		fs := s.next()
		pass(time.Hour)
		n.set(office, home)
		for range 600 {
			pass(time.Second)
			fs.expect("/", "hello /")
		}
		mu.Lock()
		if dials < 20 || dials > 30 { // 600 s: 1, 2, 4, 8, 16, 30, 30, …
			t.Errorf("%d attempts in 10 minutes", dials)
		}
		before := dials
		mu.Unlock()
		states := r.seen()
		if st := states[len(states)-1]; st.Phase != tunnelclient.PhaseConnected || st.Err == nil || st.Next.IsZero() || st.URL != testURL {
			t.Errorf("state %+v", st)
		}
		go io.WriteString(pw, "t2\n")
		if tok := fs.answerToken(true); tok != "t2" {
			t.Errorf("refreshed with %q", tok)
		}

		n.set(home)
		pass(time.Hour)
		fs.expect("/", "hello /")
		mu.Lock()
		defer mu.Unlock()
		if dials > before+1 || len(s.attempts()) != 1 {
			t.Errorf("%d further attempts, %d handshakes", dials-before, len(s.attempts()))
		}
	})
}

// What refuses on the new network, such as the login page of a hotel, does not
// end the tunnel.
func TestNetworkChangeRefused(t *testing.T) {
	for _, status := range []int{400, 401} {
		synctest.Test(t, func(t *testing.T) {
			s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
			s.admit = func(n int, _ string, w http.ResponseWriter) bool {
				if n > 1 && n < 5 {
					w.WriteHeader(status)
					return false
				}
				return true
			}
			serve(t, cfg, hello)
			old := s.next()
			n.set(office)
			for len(s.attempts()) < 4 {
				pass(time.Second)
			}
			old.expect("/", "hello /")
			s.next().expect("/", "hello /")
		})
	}
	// Nor does one refusal after that, when the session is lost.
	synctest.Test(t, func(t *testing.T) {
		s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n > 1 && n < 6 {
				w.WriteHeader(http.StatusUnauthorized)
				return false
			}
			return true
		}
		serve(t, cfg, hello)
		old := s.next()
		n.set(office)
		for len(s.attempts()) < 4 {
			pass(time.Second)
		}
		n.set(home)
		old.asking.Close()
		s.next().expect("/", "hello /")
	})
}

// A network that comes and goes makes no storm, whatever each attempt ends
// with.
func TestNetworkFlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
		serve(t, cfg, hello)
		var newest *fakeSession
		adopt := func() {
			for len(s.sessions) > 0 {
				if old := newest; old != nil {
					defer old.closeWith(wire.CloseReplaced)
				}
				newest = s.next()
			}
		}
		pass(time.Second)
		adopt()
		for i := range 500 {
			n.set([]netip.Addr{office, home}[i%2], home)
			pass(5 * time.Second)
			adopt()
			newest.expect("/", "hello /")
		}
		// 500 changes in 42 minutes.
		if n := len(s.attempts()); n < 50 || n > 150 {
			t.Errorf("%d handshakes", n)
		} else {
			t.Log(n, "handshakes")
		}
	})
}

// The service's answer to Retry-After counts here too.
func TestNetworkChangeRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n, cfg := onNetwork(t, tunnelclient.StaticToken("t1"))
		s.admit = func(n int, _ string, w http.ResponseWriter) bool {
			if n == 2 {
				refusal{status: 503, retryAfter: "60"}.write(w)
			}
			return n != 2
		}
		serve(t, cfg, hello)
		s.next()
		n.set(office)
		for len(s.attempts()) < 2 {
			pass(time.Second)
		}
		begin := time.Now()
		s.next()
		if d := time.Since(begin); d < 60*time.Second || d > 100*time.Second {
			t.Errorf("the next attempt came after %v", d)
		}
	})
}

// The real network: what leads to this machine comes from this machine.
func TestKernel(t *testing.T) {
	source, addresses := tunnelclient.Kernel()
	lo := netip.MustParseAddr("127.0.0.1")
	if a, ok := source(netip.AddrPortFrom(lo, 443)); a != lo || !ok {
		t.Errorf("to 127.0.0.1 from %v, %v", a, ok)
	}
	if aa := addresses(); !slices.Contains(aa, lo) {
		t.Errorf("addresses: %v", aa)
	}
	if a, ok := source(netip.AddrPort{}); ok && !a.IsLoopback() {
		t.Errorf("to nowhere from %v", a)
	}
}
