package clients

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func quietLog(t *testing.T) *log.Logger { return log.New(testWriter{t}, "", 0) }

// testWriter logs to a test with go test -v, else nowhere.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	if testing.Verbose() {
		w.t.Logf("%s", p)
	}
	return len(p), nil
}

// connectProxy is an HTTP proxy that knows CONNECT and nothing else.
type connectProxy struct {
	url  *url.URL
	user *url.Userinfo // that it asks for, if not nil

	mu      sync.Mutex
	tunnels []string // that were opened
	refused int      // requests without the right password
}

func newConnectProxy(t *testing.T, overTLS bool, user *url.Userinfo) *connectProxy {
	t.Helper()
	p := &connectProxy{user: user}
	ln := tunneltest.Listen(t)
	scheme := "http"
	if overTLS {
		scheme = "https"
		ln = tls.NewListener(ln, tunneltest.ServerTLS())
	}
	p.url = &url.URL{Scheme: scheme, Host: ln.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(ctx, c) })
		}
	})
	t.Cleanup(func() { cancel(); ln.Close(); wg.Wait() })
	return p
}

func (p *connectProxy) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	br := bufio.NewReader(c)
	req, err := http.ReadRequest(br)
	if err != nil {
		return
	}
	if p.user != nil && req.Header.Get("Proxy-Authorization") != basicAuth(p.user) {
		p.mu.Lock()
		p.refused++
		p.mu.Unlock()
		io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"out\"\r\nContent-Length: 0\r\n\r\n")
		return
	}
	if req.Method != http.MethodConnect {
		io.WriteString(c, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
		return
	}
	out, err := net.Dial("tcp", req.RequestURI)
	if err != nil {
		io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer out.Close()
	stopOut := context.AfterFunc(ctx, func() { out.Close() })
	defer stopOut()
	p.mu.Lock()
	p.tunnels = append(p.tunnels, req.RequestURI)
	p.mu.Unlock()
	io.WriteString(c, "HTTP/1.1 200 Connection Established\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(out, br); out.(*net.TCPConn).CloseWrite() })
	io.Copy(c, out)
	c.Close()
	wg.Wait()
}

func basicAuth(user *url.Userinfo) string {
	password, _ := user.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password))
}

// throughProxy starts a tunnel client whose way out is the proxy. It returns
// the client and the states that it goes through.
func throughProxy(t *testing.T, s *harness.Service, proxy *url.URL, h http.Handler) (*tunnelclient.Client, <-chan tunnelclient.State) {
	t.Helper()
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: tunneltest.ClientTLS()}
	t.Cleanup(tr.CloseIdleConnections)
	states := make(chan tunnelclient.State, 100)
	c := s.StartClient("id", h, tunnelclient.Config{
		HTTPClient:   &http.Client{Transport: tr},
		DrainTimeout: -1,
		OnStateChange: func(s tunnelclient.State) {
			select {
			case states <- s:
			default:
			}
		},
	})
	return c.Client, states
}

// TestWayOut: the tunnel client reaches http and https services through a
// CONNECT proxy: with and without a password, over plain HTTP and TLS.
func TestWayOut(t *testing.T) {
	for _, tc := range []struct {
		name       string
		serviceTLS bool
		proxyTLS   bool
		user       *url.Userinfo
	}{
		{"plain", true, false, nil},
		{"plain with password", true, false, url.UserPassword("user", "pass:word")},
		{"TLS", true, true, nil},
		{"TLS with password", true, true, url.UserPassword("user", "pass")},
		{"plain to http service", false, false, nil},
		{"plain to http service with password", false, false, url.UserPassword("user", "pass:word")},
		{"TLS to http service", false, true, nil},
		{"TLS to http service with password", false, true, url.UserPassword("user", "pass")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := harness.Start(t, harness.Options{TLS: tc.serviceTLS})
			proxy := newConnectProxy(t, tc.proxyTLS, tc.user)
			out := *proxy.url
			out.User = tc.user
			throughput(t, s, &out)
			proxy.mu.Lock()
			defer proxy.mu.Unlock()
			if len(proxy.tunnels) != 1 || proxy.tunnels[0] != s.TunnelAddr() || proxy.refused != 0 {
				t.Errorf("the proxy opened %q and refused %d, want %s alone", proxy.tunnels, proxy.refused, s.TunnelAddr())
			}
		})
	}
}

// throughput fetches a large answer through a tunnel whose client's way out is
// the proxy.
func throughput(t *testing.T, s *harness.Service, proxy *url.URL) {
	t.Helper()
	c, _ := throughProxy(t, s, proxy, http.HandlerFunc(page))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	u, err := c.URL(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s.WaitAnnounced("id")
	h2 := "h2"
	if strings.HasPrefix(s.URL, "http:") {
		h2 = "h2c"
	}
	for _, version := range []string{"http/1.1", h2} {
		resp, err := viewer(t, version).Get(u + "/3000000")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if n != 3_000_000 || err != nil {
			t.Errorf("%s: got %d bytes, %v", version, n, err)
		}
	}
}

// TestApacheWayOut: Apache httpd as the proxy.
func TestApacheWayOut(t *testing.T) {
	plain, overTLS := startApacheProxy(t, "user", "pass:word")
	for name, proxy := range map[string]*url.URL{"plain": plain, "TLS": overTLS} {
		for _, serviceTLS := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, service with TLS %v", name, serviceTLS), func(t *testing.T) {
				s := harness.Start(t, harness.Options{TLS: serviceTLS})
				out := *proxy
				out.User = url.UserPassword("user", "pass:word")
				throughput(t, s, &out)
			})
		}
	}
	t.Run("no password", func(t *testing.T) {
		s := harness.Start(t, harness.Options{})
		_, states := throughProxy(t, s, plain, http.HandlerFunc(page))
		refusedByProxy(t, states, plain, "407 Proxy Authentication Required; it wants a user and password")
	})
	t.Run("wrong password", func(t *testing.T) {
		s := harness.Start(t, harness.Options{})
		out := *overTLS
		out.User = url.UserPassword("user", "wrong-password")
		_, states := throughProxy(t, s, &out, http.HandlerFunc(page))
		refusedByProxy(t, states, overTLS, "407 Proxy Authentication Required; it does not take this user and password")
	})
	t.Run("port not allowed", func(t *testing.T) {
		s := harness.Start(t, harness.Options{})
		s.URL = "http://127.0.0.1:1" // AllowConnect leaves it out
		out := *plain
		out.User = url.UserPassword("user", "pass:word")
		_, states := throughProxy(t, s, &out, http.HandlerFunc(page))
		refusedByProxy(t, states, plain, "403 Forbidden")
	})
	t.Run("nobody there", func(t *testing.T) {
		ln := tunneltest.Listen(t)
		s := harness.Start(t, harness.Options{})
		s.URL = "http://" + ln.Addr().String()
		ln.Close()
		out := *plain
		out.User = url.UserPassword("user", "pass:word")
		_, states := throughProxy(t, s, &out, http.HandlerFunc(page))
		refusedByProxy(t, states, plain, "503 Service Unavailable")
	})
}

// TestWrongProxyPassword: the tunnel client goes on trying, says what is wrong,
// and does not go around the proxy.
func TestWrongProxyPassword(t *testing.T) {
	for _, serviceTLS := range []bool{true, false} {
		s := harness.Start(t, harness.Options{TLS: serviceTLS})
		proxy := newConnectProxy(t, false, url.UserPassword("user", "right"))
		out := *proxy.url
		out.User = url.UserPassword("user", "wrong-password")
		_, states := throughProxy(t, s, &out, http.HandlerFunc(page))
		refusedByProxy(t, states, proxy.url, "407 Proxy Authentication Required; it does not take this user and password")
		for info := range s.Tunnels() {
			t.Errorf("there is a tunnel %s", info.ID)
		}
	}
}

// refusedByProxy waits until a tunnel client waits for its next attempt, and
// checks why.
func refusedByProxy(t *testing.T, states <-chan tunnelclient.State, proxy *url.URL, says string) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case state := <-states:
			if state.Phase != tunnelclient.PhaseWaiting {
				continue
			}
			var refused *tunnelclient.RefusedError
			if err := state.Err; err == nil || errors.As(err, &refused) ||
				!strings.Contains(err.Error(), "the proxy "+proxy.String()+" ") || !strings.Contains(err.Error(), says) {
				t.Errorf("the error is %v, want one of the proxy %s that says %q", err, proxy, says)
			}
			if state.Err != nil && strings.Contains(state.Err.Error(), "wrong-password") {
				t.Errorf("the error has the password: %v", state.Err)
			}
			return
		case <-deadline:
			t.Fatal("the client does not wait for a next attempt")
		}
	}
}
