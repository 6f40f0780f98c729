package h2conn_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strconv"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	xwebsocket "golang.org/x/net/websocket"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// front is an ordinary HTTP server whose ReverseProxy goes through tr.
func front(t *testing.T, tr http.RoundTripper) *httptest.Server {
	rp := &httputil.ReverseProxy{
		Transport:     tr,
		FlushInterval: -1,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host = "http", "target"
		},
	}
	srv := httptest.NewServer(rp)
	t.Cleanup(srv.Close)
	return srv
}

// echoServers are websocket echo handlers by libraries that know nothing of
// HTTP/2. Each hijacks in its own way.
var echoServers = map[string]http.Handler{
	"coder": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"b"}, CompressionMode: coder.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			typ, p, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), typ, p); err != nil {
				return
			}
		}
	}),
	"gorilla": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := gorilla.Upgrader{Subprotocols: []string{"b"}, EnableCompression: true, HandshakeTimeout: 10 * time.Second}
		c, err := u.Upgrade(w, r, http.Header{"Set-Cookie": {"a=1"}})
		if err != nil {
			return
		}
		defer c.Close()
		for {
			typ, p, err := c.ReadMessage()
			if err != nil {
				return
			}
			// A write deadline that is never cleared must not cut an idle stream.
			c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if err := c.WriteMessage(typ, p); err != nil {
				return
			}
		}
	}),
	"x/net": xwebsocket.Server{
		Handshake: func(c *xwebsocket.Config, _ *http.Request) error { c.Protocol = []string{"b"}; return nil },
		Handler: func(c *xwebsocket.Conn) {
			c.PayloadType = xwebsocket.BinaryFrame
			io.Copy(c, c)
		},
	},
}

func TestWebsocketEcho(t *testing.T) {
	for name, h := range echoServers {
		t.Run(name, func(t *testing.T) {
			forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
				tr := tunnel(t, h, cfg, h2conn.ServeConfig{})
				if tr.ExtendedConnect() == cfg.NoExtendedConnect {
					t.Fatalf("ExtendedConnect is %v", tr.ExtendedConnect())
				}
				srv := front(t, tr)
				c, resp, err := coder.Dial(t.Context(), srv.URL+"/ws", &coder.DialOptions{
					Subprotocols:    []string{"a", "b"},
					CompressionMode: coder.CompressionContextTakeover,
					HTTPHeader:      http.Header{"Origin": {srv.URL}},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer c.CloseNow()
				if c.Subprotocol() != "b" {
					t.Errorf("subprotocol is %q", c.Subprotocol())
				}
				if name == "gorilla" && resp.Header.Get("Set-Cookie") != "a=1" {
					t.Errorf("the 101's cookie was lost: %v", resp.Header)
				}
				if name != "x/net" && !strings.Contains(resp.Header.Get("Sec-Websocket-Extensions"), "permessage-deflate") {
					t.Errorf("the extension was lost: %v", resp.Header)
				}
				for k := range resp.Header {
					if strings.HasPrefix(k, "X-Websocktunnel-") {
						t.Errorf("private header %s reached the viewer", k)
					}
				}
				c.SetReadLimit(-1)
				for _, size := range []int{0, 1, 125, 126, 70000, 1 << 20} {
					msg := make([]byte, size)
					rand.Read(msg)
					if name == "x/net" && size > 32<<10 {
						continue // its server echoes in frames of its own
					}
					if name == "x/net" && size == 0 {
						continue
					}
					if err := c.Write(t.Context(), coder.MessageBinary, msg); err != nil {
						t.Fatal(err)
					}
					_, got, err := c.Read(t.Context())
					if err != nil || !bytes.Equal(got, msg) {
						t.Fatalf("echo of %d bytes: got %d bytes, %v", size, len(got), err)
					}
				}
				if err := c.Close(coder.StatusNormalClosure, "bye"); err != nil && name != "x/net" { // which answers no close frame
					t.Errorf("close handshake: %v", err)
				}
			})
		})
	}
}

// TestCloseCodeFromTarget: the target's close frame passes untouched.
func TestCloseCodeFromTarget(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := coder.Accept(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			c.Close(4321, "a reason")
		}), cfg, h2conn.ServeConfig{})
		c, _, err := coder.Dial(t.Context(), front(t, tr).URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		_, _, err = c.Read(t.Context())
		if coder.CloseStatus(err) != 4321 || !strings.Contains(err.Error(), "a reason") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefusedUpgrade(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		hijack bool
	}{
		{"200", 200, false}, {"204", 204, false}, {"302", 302, false}, {"401", 401, false},
		{"403", 403, false}, {"426", 426, false}, {"501", 501, false}, {"hijacked 403", 403, true}, {"hijacked 200", 200, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
				tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					const text = "because"
					if tc.hijack {
						conn, _, err := w.(http.Hijacker).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						defer conn.Close()
						fmt.Fprintf(conn, "HTTP/1.1 %d x\r\nX-Reason: yes\r\nContent-Length: %d\r\n\r\n%s", tc.status, len(text), text)
						return
					}
					w.Header().Set("X-Reason", "yes")
					if tc.status == 200 {
						return // implied
					}
					w.WriteHeader(tc.status)
					if tc.status != 204 {
						io.WriteString(w, text)
					}
				}), cfg, h2conn.ServeConfig{})
				_, resp, err := coder.Dial(t.Context(), front(t, tr).URL, &coder.DialOptions{HTTPClient: &http.Client{
					CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
				}})
				if err == nil || resp == nil {
					t.Fatalf("got %v, %v", resp, err)
				}
				b, _ := io.ReadAll(resp.Body)
				want := "because"
				if !tc.hijack && (tc.status == 200 || tc.status == 204) {
					want = ""
				}
				if resp.StatusCode != tc.status || resp.Header.Get("X-Reason") != "yes" || string(b) != want {
					t.Errorf("got %d %q %v", resp.StatusCode, b, resp.Header)
				}
			})
		})
	}
}

// TestOtherUpgrades: protocols other than websocket, methods other than GET
// and request bodies, which have the fallback form in both modes.
func TestOtherUpgrades(t *testing.T) {
	target := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		conn, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(brw, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n%s %q\n", r.Header.Get("Upgrade"), r.Method, b)
		brw.Flush()
		io.Copy(conn, brw) // until the viewer's half-close
		io.WriteString(conn, "end")
	})
	for _, tc := range []struct{ name, method, body string }{
		{"GET", "GET", ""},
		{"POST", "POST", ""},
		{"POST with length", "POST", "Content-Length: 4\r\n\r\nbody"},
		{"POST chunked", "POST", "Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
				srv := front(t, tunnel(t, target, cfg, h2conn.ServeConfig{}))
				conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				rest := tc.body
				if rest == "" {
					rest = "\r\n"
				}
				fmt.Fprintf(conn, "%s /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n%s", tc.method, rest)
				br := bufio.NewReader(conn)
				resp, err := http.ReadResponse(br, nil)
				if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "tcp" {
					t.Fatalf("got %v, %v", resp, err)
				}
				io.WriteString(conn, "ping")
				conn.(*net.TCPConn).CloseWrite()
				b, err := io.ReadAll(br)
				wantBody := ""
				if tc.body != "" {
					wantBody = "body"
				}
				if want := tc.method + " " + strconv.Quote(wantBody) + "\npingend"; string(b) != want || err != nil {
					t.Errorf("got %q, %v, want %q", b, err, want)
				}
			})
		})
	}
}

// TestMalformedKeyIsTheTargetsToRefuse: the service must not make a valid
// handshake of an invalid one.
func TestMalformedKeyIsTheTargetsToRefuse(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		tr := tunnel(t, echoServers["coder"], cfg, h2conn.ServeConfig{})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"short"}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b := body(t, resp); resp.StatusCode != 400 || !strings.Contains(b, "short") {
			t.Errorf("got %d %q", resp.StatusCode, b)
		}
	})
}

// TestDirectReader: it reads what the connection would, and Close ends its Read while
// the handler is still there.
func TestDirectReader(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		result := make(chan error, 1)
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				result <- err
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			r := conn.(interface{ DirectReader() io.Reader }).DirectReader()
			p := make([]byte, 10)
			if _, err := io.ReadFull(r, p[:5]); err != nil || string(p[:5]) != "hello" {
				result <- fmt.Errorf("Read %q, %w", p[:5], err)
				return
			}
			go conn.Close()
			if n, err := r.Read(p); !errors.Is(err, net.ErrClosed) {
				result <- fmt.Errorf("Read after Close: %d, %w", n, err)
				return
			}
			result <- nil
		}), cfg, h2conn.ServeConfig{})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.WriteString(resp.Body.(io.Writer), "hello")
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

// TestHijackedConnDeadlines: deadlines behave as on a TCP connection, also
// after one has passed.
func TestHijackedConnDeadlines(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		result := make(chan error, 1)
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				result <- err
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			result <- func() error {
				p := make([]byte, 10)
				conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
				if n, err := conn.Read(p); !isTimeout(err) {
					return fmt.Errorf("Read returned %d, %v, want a timeout", n, err)
				}
				// From another goroutine, while blocked.
				conn.SetReadDeadline(time.Time{})
				go conn.SetReadDeadline(time.Now().Add(-time.Second))
				if n, err := conn.Read(p); !isTimeout(err) {
					return fmt.Errorf("Read returned %d, %v, want a timeout", n, err)
				}
				conn.SetWriteDeadline(time.Now().Add(-time.Second))
				if _, err := conn.Write(p); !isTimeout(err) {
					return fmt.Errorf("Write returned %v, want a timeout", err)
				}
				conn.SetDeadline(time.Time{})
				if _, err := io.WriteString(conn, "go"); err != nil {
					return err
				}
				if _, err := io.ReadFull(conn, p[:5]); err != nil || string(p[:5]) != "after" {
					return fmt.Errorf("Read %q, %v", p[:5], err)
				}
				return nil
			}()
		}), cfg, h2conn.ServeConfig{})
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://target/", nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		p := make([]byte, 2)
		if _, err := io.ReadFull(resp.Body, p); err != nil {
			t.Fatal(err)
		}
		io.WriteString(resp.Body.(io.Writer), "after")
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// TestUpgradeCancelled: when either side goes away the other one learns it.
func TestUpgradeCancelled(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		ended := make(chan error, 1)
		tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			_, err := conn.Read(make([]byte, 1))
			ended <- err
		}), cfg, h2conn.ServeConfig{})
		ctx, cancel := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://target/", nil)
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		cancel()
		if err := <-ended; err == nil || err == io.EOF {
			t.Errorf("the target's Read returned %v, want an error", err)
		}
	})
}

// TestUpgradeHandlerPassesOthers: what is no extended CONNECT stays as it is.
// The server's tests have those that are.
func TestUpgradeHandlerPassesOthers(t *testing.T) {
	srv := httptest.NewServer(h2conn.UpgradeHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Method)
	})))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	if got := body(t, resp); got != "GET" {
		t.Errorf("got %q", got)
	}
}
