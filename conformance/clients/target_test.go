package clients

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestTargets: every way to name a target, with a plain exchange, an upload
// and a websocket.
func TestTargets(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	v := viewer(t, "http/1.1")
	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	internal, internalCA := certificateFor(t, "app.internal")

	for _, tc := range []struct {
		name    string
		start   func(t *testing.T, srv *httptest.Server) (target string)
		options tunnelclient.ProxyOptions
		proto   string
		host    string // that the target sees, if not the viewer's
		sni     string
	}{
		{name: "port on 127.0.0.1", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			srv.Start()
			return port(srv.Listener.Addr().String())
		}},
		{name: "port on ::1 only", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			listenOn(t, srv, "tcp6", "[::1]:0")
			srv.Start()
			return port(srv.Listener.Addr().String())
		}},
		{name: "address in IPv6", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			listenOn(t, srv, "tcp6", "[::1]:0")
			srv.Start()
			return srv.Listener.Addr().String()
		}},
		{name: "URL with an address in IPv6", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			listenOn(t, srv, "tcp6", "[::1]:0")
			srv.Start()
			return "http://" + srv.Listener.Addr().String()
		}},
		{name: "https at an address in IPv6", proto: "HTTP/2.0", start: func(t *testing.T, srv *httptest.Server) string {
			listenOn(t, srv, "tcp6", "[::1]:0")
			srv.EnableHTTP2 = true
			srv.StartTLS()
			return "https://" + srv.Listener.Addr().String()
		}},
		{name: "name with several addresses", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			listenOn(t, srv, "tcp4", "127.0.0.1:0") // and localhost is ::1 as well
			srv.Start()
			return "http://localhost:" + port(srv.Listener.Addr().String())
		}},
		{name: "unix socket", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			path := filepath.Join(t.TempDir(), "s")
			listenOn(t, srv, "unix", path)
			srv.Start()
			return "unix://" + path
		}},
		{name: "h2c", proto: "HTTP/2.0", start: func(t *testing.T, srv *httptest.Server) string {
			srv.Start()
			return "h2c://" + srv.Listener.Addr().String()
		}},
		{name: "https with HTTP/2", proto: "HTTP/2.0", sni: "localhost", start: func(t *testing.T, srv *httptest.Server) string {
			srv.EnableHTTP2 = true
			srv.StartTLS()
			return "https://localhost:" + port(srv.Listener.Addr().String())
		}},
		{name: "https with HTTP/1.1 only", proto: "HTTP/1.1", start: func(t *testing.T, srv *httptest.Server) string {
			srv.StartTLS()
			return "https://" + srv.Listener.Addr().String()
		}},
		{name: "https with a CA and a name of its own", proto: "HTTP/2.0", sni: "app.internal",
			options: tunnelclient.ProxyOptions{TLSConfig: &tls.Config{RootCAs: internalCA, ServerName: "app.internal"}},
			start: func(t *testing.T, srv *httptest.Server) string {
				srv.EnableHTTP2 = true
				srv.TLS.Certificates = []tls.Certificate{internal}
				srv.StartTLS()
				return "https://" + srv.Listener.Addr().String()
			}},
		{name: "https unverified", proto: "HTTP/2.0",
			options: tunnelclient.ProxyOptions{InsecureSkipVerify: true},
			start: func(t *testing.T, srv *httptest.Server) string {
				srv.EnableHTTP2 = true
				srv.TLS.Certificates = []tls.Certificate{internal}
				srv.StartTLS()
				return "https://" + srv.Listener.Addr().String()
			}},
		{name: "host header", proto: "HTTP/1.1", host: "app.example:81",
			options: tunnelclient.ProxyOptions{HostHeader: "app.example:81"},
			start: func(t *testing.T, srv *httptest.Server) string {
				srv.Start()
				return srv.Listener.Addr().String()
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var sni sync.Map
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ws" {
					echoMessages(w, r)
					return
				}
				n, _ := io.Copy(io.Discard, r.Body)
				fmt.Fprintf(w, "%s %s %s %d", r.Proto, r.Host, r.RequestURI, n)
			}))
			srv.Config.Protocols = new(http.Protocols)
			srv.Config.Protocols.SetHTTP1(true)
			srv.Config.Protocols.SetUnencryptedHTTP2(true)
			srv.TLS = &tls.Config{
				Certificates: []tls.Certificate{tunneltest.Certificate()},
				GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					sni.Store(hello.ServerName, true)
					return nil, nil
				},
			}
			target := tc.start(t, srv)
			t.Cleanup(srv.Close)
			id := strings.NewReplacer(" ", "-", "/", "-", ":", "_").Replace(tc.name)
			url := s.Target(id, target, tc.options)

			host := strings.TrimPrefix(strings.TrimSuffix(url, "/"+id), "http://")
			if tc.host != "" {
				host = tc.host
			}
			for _, body := range []string{"", "12345", strings.Repeat("x", 1<<20)} {
				resp, err := v.Post(url+"/a%2Fb?c=%zz", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				got, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if want := fmt.Sprintf("%s %s /a%%2Fb?c=%%zz %d", tc.proto, host, len(body)); string(got) != want {
					t.Fatalf("the target saw %q, want %q", got, want)
				}
			}
			if _, ok := sni.Load(tc.sni); tc.sni != "" && !ok {
				t.Errorf("no connection named %s", tc.sni)
			}

			c, _, err := websocket.Dial(t.Context(), url+"/ws", nil)
			if err != nil {
				t.Fatal("websocket: ", err)
			}
			defer c.CloseNow()
			if err := c.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, got, err := c.Read(t.Context()); string(got) != "hello" {
				t.Errorf("echo is %q, %v", got, err)
			}
		})
	}
}

// listenOn makes srv listen there.
func listenOn(t *testing.T, srv *httptest.Server, network, addr string) {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		if network == "tcp6" {
			t.Skip("*** SKIPPED: no IPv6 on this machine: ", err)
		}
		t.Fatal(err)
	}
	srv.Listener.Close()
	srv.Listener = ln
}

// certificateFor returns a certificate for name and the pool with its CA.
func certificateFor(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	template := func(serial int64, cn string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial),
			Subject:      pkix.Name{CommonName: cn},
			NotBefore:    time.Now().Add(-time.Hour),
			NotAfter:     time.Now().Add(time.Hour),
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := template(1, "a CA of its own")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := template(2, name)
	leaf.DNSNames, leaf.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// TestFailingTargets: what a viewer gets for a target that gives no answer.
func TestFailingTargets(t *testing.T) {
	s := harness.Start(t, harness.Options{})
	v := viewer(t, "http/1.1")
	untrusted, _ := certificateFor(t, "localhost")
	for _, tc := range []struct {
		name   string
		target func(t *testing.T) string
		cause  string
	}{
		{"refused", func(t *testing.T) string {
			ln := tunneltest.Listen(t)
			ln.Close()
			return ln.Addr().String()
		}, "connection_refused"},
		{"no socket", func(t *testing.T) string { return "unix://" + filepath.Join(t.TempDir(), "nothing") }, "destination_unavailable"},
		{"closed at once", func(t *testing.T) string {
			return rawTarget(t, func(net.Conn) {})
		}, "connection_terminated"},
		{"reset", func(t *testing.T) string {
			return rawTarget(t, func(c net.Conn) {
				http.ReadRequest(bufio.NewReader(c)) // else connecting could fail already
				c.(*net.TCPConn).SetLinger(0)
			})
		}, "connection_terminated"},
		{"closed after the request", func(t *testing.T) string {
			return rawTarget(t, func(c net.Conn) { http.ReadRequest(bufio.NewReader(c)) })
		}, "connection_terminated"},
		{"no HTTP", func(t *testing.T) string {
			return rawTarget(t, func(c net.Conn) {
				http.ReadRequest(bufio.NewReader(c))
				io.WriteString(c, "220 mail.example ESMTP\r\n")
			})
		}, "http_protocol_error"},
		{"a certificate of no known CA", func(t *testing.T) string {
			srv := httptest.NewUnstartedServer(http.NotFoundHandler())
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{untrusted}}
			srv.Config.ErrorLog = quietLog(t)
			srv.StartTLS()
			t.Cleanup(srv.Close)
			return srv.URL
		}, "tls_certificate_error"},
		{"plain HTTP for https", func(t *testing.T) string {
			return strings.Replace(serve(t, false, http.NotFoundHandler()), "http:", "https:", 1)
		}, "tls_protocol_error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url := s.Target(strings.ReplaceAll(tc.name, " ", "-"), tc.target(t), tunnelclient.ProxyOptions{})
			resp, err := v.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got := resp.Header.Get("Proxy-Status")
			if resp.StatusCode != http.StatusBadGateway || !strings.HasPrefix(got, "websocktunnel-client; error="+tc.cause) {
				t.Errorf("got %d with %q, want 502 with %s", resp.StatusCode, got, tc.cause)
			}
		})
	}
}

// TestSilentTarget: a target that takes connections and requests, and never
// answers.
func TestSilentTarget(t *testing.T) {
	arrived, ended := make(chan struct{}, 100), make(chan struct{}, 100)
	addr := rawTarget(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		arrived <- struct{}{}
		if _, err := io.Copy(io.Discard, br); err == nil { // else the deadline has passed
			ended <- struct{}{}
		}
	})
	wait := func(t *testing.T, c <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatal("it takes too long: ", what)
		}
	}
	for _, version := range []string{"http/1.1", "h2c"} {
		t.Run("viewer leaves, "+version, func(t *testing.T) {
			s := harness.Start(t, harness.Options{})
			url := s.Target("id", addr, tunnelclient.ProxyOptions{})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			failed := make(chan error, 1)
			v := viewer(t, version)
			go func() {
				resp, err := v.Do(req)
				if err == nil {
					resp.Body.Close()
				}
				failed <- err
			}()
			wait(t, arrived, "the request")
			select { // nothing answers in the target's place
			case err := <-failed:
				t.Fatal("the viewer waits no longer: ", err)
			case <-ended:
				t.Fatal("the connection to the target has ended")
			case <-time.After(time.Second):
			}
			leave()
			wait(t, ended, "the end of the connection to the target")
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("the viewer got %v", err)
			}
		})
		t.Run("RESPONSE_HEADER_TIMEOUT, "+version, func(t *testing.T) {
			s := harness.Start(t, harness.Options{Server: server.Config{ResponseHeaderTimeout: 200 * time.Millisecond}})
			url := s.Target("id", addr, tunnelclient.ProxyOptions{})
			for _, body := range []string{"", "12345"} {
				resp, err := viewer(t, version).Post(url, "text/plain", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				text, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if got := resp.Header.Get("Proxy-Status"); resp.StatusCode != http.StatusGatewayTimeout || !strings.HasPrefix(got, `websocktunnel; error=http_response_timeout; details="WT-ANSWER-OVERDUE`) || len(text) == 0 {
					t.Errorf("got %d with %q and %q", resp.StatusCode, got, text)
				}
				wait(t, arrived, "the request")
				wait(t, ended, "the end of the connection to the target")
			}
		})
	}
}

// rawTarget accepts connections and closes each when handle returns.
func rawTarget(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	return tunneltest.ServeConns(t, func(c net.Conn) {
		c.SetDeadline(time.Now().Add(patience))
		handle(c)
	}).Addr().String()
}

// TestClosingTarget: a target that says keep-alive, takes some requests on a
// connection and then closes it, at the worst of times. No GET may fail.
func TestClosingTarget(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsmall"
	for name, closing := range map[string]func(c net.Conn, br *bufio.Reader){
		// The end of the connection follows the answer, and meets the next request.
		"after the answer": func(c net.Conn, br *bufio.Reader) {
			for range 3 {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				io.WriteString(c, answer)
			}
		},
		// It is the next request that makes the target close.
		"at the next request": func(c net.Conn, br *bufio.Reader) {
			for range 3 {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				io.WriteString(c, answer)
			}
			br.Peek(1)
		},
		"with a reset": func(c net.Conn, br *bufio.Reader) {
			for range 3 {
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				io.WriteString(c, answer)
			}
			br.Peek(1)
			c.(*net.TCPConn).SetLinger(0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.Start(t, harness.Options{})
			addr := rawTarget(t, func(c net.Conn) { closing(c, bufio.NewReader(c)) })
			hammer(t, s.Target("id", addr, tunnelclient.ProxyOptions{}), "small")
		})
	}

	// A POST is not repeated: each arrives once, and those and only those fail
	// whose answer the target owes.
	t.Run("POST", func(t *testing.T) {
		t.Parallel()
		var mu sync.Mutex
		arrived, unanswered := map[string]int{}, map[string]bool{}
		addr := rawTarget(t, func(c net.Conn) {
			br := bufio.NewReader(c)
			for range 2 {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				body, _ := io.ReadAll(req.Body)
				mu.Lock()
				arrived[string(body)]++
				mu.Unlock()
				io.WriteString(c, answer)
			}
			// The third has come whole when the connection ends without an answer.
			if req, err := http.ReadRequest(br); err == nil {
				body, _ := io.ReadAll(req.Body)
				mu.Lock()
				arrived[string(body)]++
				unanswered[string(body)] = true
				mu.Unlock()
			}
		})
		s := harness.Start(t, harness.Options{})
		url := s.Target("id", addr, tunnelclient.ProxyOptions{})
		v := viewer(t, "http/1.1")
		failed := map[string]bool{}
		for i := range 30 {
			body := fmt.Sprint(i)
			resp, err := v.Post(url, "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				failed[body] = true
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if !maps.Equal(failed, unanswered) {
			t.Errorf("POSTs %v failed, and %v had no answer", failed, unanswered)
		}
		// Nearly each third one: now and then a connection is not back in the pool
		// when the next request comes, which then gets a new one.
		if len(failed) < 5 || len(failed) > 10 {
			t.Errorf("%d of 30 POSTs failed, want 10", len(failed))
		}
		if len(arrived) != 30 {
			t.Errorf("%d of 30 POSTs arrived", len(arrived))
		}
		for body, n := range arrived {
			if n != 1 {
				t.Errorf("POST %s arrived %d times", body, n)
			}
		}
	})
}
