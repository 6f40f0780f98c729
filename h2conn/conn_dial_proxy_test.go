package h2conn_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// connectProxy is an HTTP proxy that connects to whatever CONNECT names and
// does nothing else.
type connectProxy struct {
	*httptest.Server
	answer func(http.ResponseWriter, *http.Request) // instead, if not nil

	mu   sync.Mutex
	seen []http.Header // of all requests
	asks []string      // their methods and hosts
}

func newConnectProxy(t *testing.T, overTLS bool) *connectProxy {
	t.Helper()
	p := &connectProxy{}
	p.Server = httptest.NewUnstartedServer(p)
	p.Config.ErrorLog = log.New(io.Discard, "", 0)
	if overTLS {
		p.EnableHTTP2 = true // which the client must not choose
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(p.Close)
	return p
}

func (p *connectProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.seen = append(p.seen, r.Header.Clone())
	p.asks = append(p.asks, r.Method+" "+r.Host)
	p.mu.Unlock()
	if p.answer != nil {
		p.answer(w, r)
		return
	}
	if r.Method != http.MethodConnect {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	out, err := net.Dial("tcp", r.Host)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	conn, brw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		out.Close()
		return
	}
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	relay(conn, brw, out)
}

// relay copies both ways until either side ends, and closes both.
func relay(in net.Conn, from io.Reader, out net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(out, from); out.Close() })
	io.Copy(in, out)
	in.Close()
	wg.Wait()
}

// target returns the proxy's URL with a user.
func (p *connectProxy) target(user *url.Userinfo) *url.URL {
	u, err := url.Parse(p.URL)
	if err != nil {
		panic(err)
	}
	u.User = user
	return u
}

// acceptor is a service that accepts every handshake.
func acceptor(t *testing.T, overTLS bool) (srv *httptest.Server, accepted <-chan *h2conn.Conn) {
	t.Helper()
	got := make(chan *h2conn.Conn, 1)
	srv = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" || r.URL.IsAbs() {
			t.Errorf("the service got %s with %v", r.RequestURI, r.Header)
		}
		c, err := h2conn.Accept(w, r, h2conn.AcceptOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		got <- c
	}))
	if overTLS {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	t.Cleanup(srv.Close)
	return srv, got
}

// trusting returns a transport that believes the servers and uses the proxy.
func trusting(proxy *url.URL, servers ...*httptest.Server) *http.Transport {
	roots := x509.NewCertPool()
	for _, s := range servers {
		if c := s.Certificate(); c != nil {
			roots.AddCert(c)
		}
	}
	return &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}}
}

// reaches dials and sends something each way.
func reaches(t *testing.T, tr *http.Transport, srv *httptest.Server, accepted <-chan *h2conn.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, _, err := h2conn.Dial(ctx, srv.URL, h2conn.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if err != nil {
		t.Fatal(err)
	}
	b := <-accepted
	defer func() { // each waits a moment for the other
		var wg sync.WaitGroup
		wg.Go(func() { a.Close() })
		b.Close()
		wg.Wait()
	}()
	for _, pair := range [][2]*h2conn.Conn{{a, b}, {b, a}} {
		if _, err := pair[0].Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(pair[1], got); err != nil || string(got) != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// TestDialProxy: HTTP proxies get CONNECT, whatever the service's scheme.
func TestDialProxy(t *testing.T) {
	for _, serviceTLS := range []bool{false, true} {
		for _, proxyTLS := range []bool{false, true} {
			for _, user := range []*url.Userinfo{nil, url.UserPassword("me", "pass:wörd"), url.User("me")} {
				srv, accepted := acceptor(t, serviceTLS)
				p := newConnectProxy(t, proxyTLS)
				t.Run(p.URL[:5]+" to "+srv.URL[:5]+" "+user.String(), func(t *testing.T) {
					reaches(t, trusting(p.target(user), srv, p.Server), srv, accepted)
					if want := []string{"CONNECT " + srv.Listener.Addr().String()}; !slices.Equal(p.asks, want) {
						t.Errorf("the proxy got %q, want %q", p.asks, want)
					}
					want := ""
					if user != nil {
						password, _ := user.Password()
						r := &http.Request{Header: http.Header{}}
						r.SetBasicAuth(user.Username(), password)
						want = r.Header.Get("Authorization")
					}
					if got := p.seen[0].Get("Proxy-Authorization"); got != want {
						t.Errorf("Proxy-Authorization %q, want %q", got, want)
					}
					if got := p.seen[0].Get("Sec-Websocket-Key"); got != "" {
						t.Error("the proxy got a part of the handshake")
					}
				})
			}
		}
	}
}

// TestDialProxySkipped: NO_PROXY and its like, and other RoundTrippers.
func TestDialProxySkipped(t *testing.T) {
	srv, accepted := acceptor(t, false)
	tr := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
	defer tr.CloseIdleConnections()
	reaches(t, tr, srv, accepted)

	broken := errors.New("the proxy's address is unreadable")
	tr.Proxy = func(*http.Request) (*url.URL, error) { return nil, broken }
	if _, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{HTTPClient: &http.Client{Transport: tr}}); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
}

// TestDialSocks: SOCKS proxies are net/http's business.
func TestDialSocks(t *testing.T) {
	for _, overTLS := range []bool{false, true} {
		srv, accepted := acceptor(t, overTLS)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			// RFC 1928, with the one address that there is.
			hello, request := make([]byte, 3), make([]byte, 10)
			io.ReadFull(c, hello)
			c.Write([]byte{5, 0})
			io.ReadFull(c, request)
			addr := net.TCPAddr{IP: request[4:8], Port: int(binary.BigEndian.Uint16(request[8:]))}
			out, err := net.DialTCP("tcp", nil, &addr)
			if err != nil {
				t.Error(err)
				return
			}
			c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
			relay(c, c, out)
		})
		reaches(t, trusting(&url.URL{Scheme: "socks5", Host: ln.Addr().String()}, srv), srv, accepted)
		ln.Close()
		wg.Wait()
	}
}

// TestDialProxyFails: the error names the proxy and what it said, but no
// password, and there is no answer that could be taken for the service's.
func TestDialProxyFails(t *testing.T) {
	status := func(code int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "go away", code) }
	}
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		user   *url.Userinfo
		says   string
	}{
		{"400", status(400), nil, "answers CONNECT service.test:80 with 400 Bad Request"},
		{"401", status(401), nil, "with 401 Unauthorized"},
		{"403", status(403), nil, "with 403 Forbidden; its rules may not allow this host or port"},
		{"407", status(407), nil, "with 407 Proxy Authentication Required; it wants a user and password"},
		{"407 with password", status(407), url.UserPassword("me", "hunter2"), "with 407 Proxy Authentication Required; it does not take this user and password"},
		{"502", status(502), url.UserPassword("me", "hunter2"), "with 502 Bad Gateway"},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://login.test/", http.StatusFound)
		}, nil, "with 302 Found"},
		{"101", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusSwitchingProtocols) }, nil, "with 101 Switching Protocols"},
		{"hangs up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, url.UserPassword("me", "hunter2"), "does not answer CONNECT service.test:80: unexpected EOF"},
		{"endless header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 100<<10))
		}, nil, "does not answer CONNECT"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newConnectProxy(t, false)
			p.answer = tt.answer
			expectProxyError(t, trusting(p.target(tt.user)), p.URL, tt.says)
		})
	}
	t.Run("refused", func(t *testing.T) {
		p := newConnectProxy(t, false)
		p.Close()
		expectProxyError(t, trusting(p.target(url.UserPassword("me", "hunter2"))), p.URL, "connection refused")
	})
	t.Run("untrusted", func(t *testing.T) {
		p := newConnectProxy(t, true)
		expectProxyError(t, trusting(p.target(nil)), p.URL, "certificate")
		if len(p.asks) > 0 {
			t.Errorf("the proxy got %q", p.asks)
		}
	})
	t.Run("silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			tr := trusting(&url.URL{Scheme: "http", Host: "proxy.test"})
			tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() { io.Copy(io.Discard, far); far.Close() }()
				return near, nil
			}
			expectProxyError(t, tr, "http://proxy.test", "does not answer CONNECT service.test:80: it takes longer than 25s")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			start := time.Now()
			_, _, err := h2conn.Dial(ctx, "http://service.test", h2conn.DialOptions{HTTPClient: &http.Client{Transport: tr}})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
				t.Errorf("after %v: %v", time.Since(start), err)
			}
		})
	})
}

func expectProxyError(t *testing.T, tr *http.Transport, name, says string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, resp, err := h2conn.Dial(ctx, "ws://service.test/", h2conn.DialOptions{HTTPClient: &http.Client{Transport: tr}})
	if resp != nil {
		t.Errorf("there is an answer, %s", resp.Status)
	}
	if err == nil || !strings.Contains(err.Error(), "the proxy "+name+" ") || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error is %v, want one that names %s and says %q", err, name, says)
	}
}

// TestDialProxyTransport: what a Transport says about its proxy holds.
func TestDialProxyTransport(t *testing.T) {
	srv, accepted := acceptor(t, false)
	p := newConnectProxy(t, true)
	for _, tt := range []struct {
		name string
		set  func(tr *http.Transport, called func())
	}{
		{"DialContext", func(tr *http.Transport, called func()) {
			tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				called()
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
		}},
		{"Dial", func(tr *http.Transport, called func()) {
			tr.Dial = func(network, addr string) (net.Conn, error) { called(); return net.Dial(network, addr) } //nolint:staticcheck // deprecated, not dead
		}},
		{"DialTLSContext", func(tr *http.Transport, called func()) {
			cfg := tr.TLSClientConfig
			tr.TLSClientConfig = nil
			tr.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				called()
				return (&tls.Dialer{Config: cfg}).DialContext(ctx, network, addr)
			}
		}},
		{"ProxyConnectHeader", func(tr *http.Transport, called func()) {
			tr.ProxyConnectHeader = http.Header{"X-Test": {"one"}}
			called()
		}},
		{"GetProxyConnectHeader", func(tr *http.Transport, called func()) {
			tr.ProxyConnectHeader = http.Header{"X-Other": {"one"}}
			tr.GetProxyConnectHeader = func(_ context.Context, u *url.URL, target string) (http.Header, error) {
				if u.Host == p.Listener.Addr().String() && target == srv.Listener.Addr().String() {
					called()
				}
				return http.Header{"X-Test": {"one"}}, nil
			}
		}},
		{"OnProxyConnectResponse", func(tr *http.Transport, called func()) {
			tr.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, req *http.Request, resp *http.Response) error {
				if req.Method == http.MethodConnect && resp.StatusCode == http.StatusOK {
					called()
				}
				return nil
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			tr := trusting(p.target(nil), p.Server)
			tt.set(tr, func() { n++ })
			reaches(t, tr, srv, accepted)
			if n != 1 {
				t.Errorf("called %d times", n)
			}
			h := p.seen[len(p.seen)-1]
			if strings.Contains(tt.name, "Header") && h.Get("X-Test") != "one" || h.Get("X-Other") != "" {
				t.Errorf("CONNECT came with %v", h)
			}
			if tr.ProxyConnectHeader.Get("Proxy-Authorization") != "" {
				t.Error("the caller's header was changed")
			}
		})
	}

	for _, tt := range []struct {
		name string
		set  func(tr *http.Transport, err error)
	}{
		{"GetProxyConnectHeader", func(tr *http.Transport, err error) {
			tr.GetProxyConnectHeader = func(context.Context, *url.URL, string) (http.Header, error) { return nil, err }
		}},
		{"OnProxyConnectResponse", func(tr *http.Transport, err error) {
			tr.OnProxyConnectResponse = func(context.Context, *url.URL, *http.Request, *http.Response) error { return err }
		}},
	} {
		t.Run(tt.name+" fails", func(t *testing.T) {
			no := errors.New("no")
			tr := trusting(p.target(nil), p.Server)
			tt.set(tr, no)
			if _, _, err := h2conn.Dial(t.Context(), srv.URL, h2conn.DialOptions{HTTPClient: &http.Client{Transport: tr}}); !errors.Is(err, no) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	t.Run("DialTLSContext is not for the service", func(t *testing.T) {
		srv, accepted := acceptor(t, true)
		p := newConnectProxy(t, false)
		tr := trusting(p.target(nil), srv)
		tr.DialTLSContext = func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("this goes around the proxy")
		}
		reaches(t, tr, srv, accepted)
	})
}

// TestDialProxyDefaultPorts: of proxies that name none.
func TestDialProxyDefaultPorts(t *testing.T) {
	for proxy, want := range map[string]string{
		"http://proxy.test": "proxy.test:80", "https://proxy.test": "proxy.test:443",
		"http://[::1]": "[::1]:80", "http://prüfung.test:1": "xn--prfung-4ya.test:1",
	} {
		u, err := url.Parse(proxy)
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		tr := trusting(u)
		tr.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
			got.WriteString(addr)
			return nil, errors.New("no")
		}
		h2conn.Dial(t.Context(), "http://service.test", h2conn.DialOptions{HTTPClient: &http.Client{Transport: tr}})
		if got.String() != want {
			t.Errorf("%s: dialled %s, want %s", proxy, &got, want)
		}
	}
}
