package target_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// quietEnds are ways in which a target ends a connection without an answer.
var quietEnds = []struct {
	name string
	end  func(net.Conn)
	kind string // of the error
}{
	{"close", func(c net.Conn) { c.Close() }, "connection_terminated"},
	{"reset", func(c net.Conn) { reset(c) }, "connection_terminated"},
	{"half close", func(c net.Conn) { c.(interface{ CloseWrite() error }).CloseWrite() }, "connection_terminated"},
	{"in the answer's header", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nA: b\r\n")
		c.Close()
	}, "http_response_incomplete"},
	{"after an interim answer", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		c.Close()
	}, "http_response_incomplete"},
	{"nonsense", func(c net.Conn) { io.WriteString(c, "nonsense, and the connection stays\r\n\r\n") }, "http_protocol_error"},
	{"header too large", func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nA: "+strings.Repeat("a", 300<<10)+"\r\n\r\n")
	}, "http_response_header_section_size"},
}

func reset(c net.Conn) {
	if tc, ok := c.(*tls.Conn); ok {
		c = tc.NetConn()
	}
	if tc, ok := c.(*net.TCPConn); ok {
		tc.SetLinger(0)
	}
	c.Close()
}

// connKey is the context key of a target's connection.
type connKey struct{}

// connTarget runs a target whose handler gets at its connection, once the first
// 3 bytes of the request's body are here, and returns it for ProxyTo.
func connTarget(t *testing.T, kind string, h func(net.Conn, http.ResponseWriter, *http.Request)) (string, target.Options) {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		if _, err := io.ReadFull(r.Body, make([]byte, 3)); err != nil {
			t.Errorf("the target got no body: %v", err)
		}
		h(r.Context().Value(connKey{}).(net.Conn), w, r)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	t.Cleanup(srv.Close)
	switch kind {
	case "unix":
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		srv.Listener.Close()
		srv.Listener = ln
		srv.Start()
		return "unix://" + path, target.Options{}
	case "https", "https, HTTP/2":
		srv.EnableHTTP2 = kind != "https"
		srv.StartTLS()
		return srv.URL, target.Options{InsecureSkipVerify: true}
	case "h2c":
		srv.Config.Protocols = new(http.Protocols)
		srv.Config.Protocols.SetUnencryptedHTTP2(true)
		srv.Start()
		return "h2c://" + srv.Listener.Addr().String(), target.Options{}
	}
	srv.Start()
	return srv.Listener.Addr().String(), target.Options{}
}

var targetKinds = []string{"plain", "unix", "https", "https, HTTP/2", "h2c"}

// quietPost sends the first 3 bytes of a body, and later what is written to
// rest. The answer has to come by itself.
func quietPost(t *testing.T, fs *tunnel, length int64) (resp *http.Response, rest *io.PipeWriter) {
	t.Helper()
	body, rest := io.Pipe()
	t.Cleanup(func() { rest.CloseWithError(errors.New("the test is over")) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "POST", "http://tunnel/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = length
	go io.WriteString(rest, "abc")
	if resp, err = fs.asking.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, rest
}

// TestTargetGone: a target that ends its connection before it answers has
// failed, and the viewer learns it without sending more of its body.
func TestTargetGone(t *testing.T) {
	for _, kind := range targetKinds {
		for _, tt := range quietEnds {
			http2 := kind == "h2c" || kind == "https, HTTP/2"
			if http2 && tt.kind != "connection_terminated" {
				continue // it is said in HTTP/1.1
			}
			t.Run(kind+"/"+tt.name, func(t *testing.T) {
				over := make(chan struct{})
				addr, o := connTarget(t, kind, func(c net.Conn, _ http.ResponseWriter, _ *http.Request) {
					tt.end(c)
					<-over
					panic(http.ErrAbortHandler)
				})
				defer close(over)
				fs := tunnelTo(t, proxyTo(t, addr, o))
				for name, length := range map[string]int64{"length": 10, "chunked": -1} {
					resp, _ := quietPost(t, fs, length)
					got := resp.Header.Get(wire.HeaderError)
					if http2 && got == "http_response_incomplete" {
						got = tt.kind // net/http's HTTP/2 makes an unexpected EOF of some ends
					}
					if resp.StatusCode != 502 || got != tt.kind {
						t.Errorf("%s: got %s, %q; want 502, %q", name, resp.Status, got, tt.kind)
					}
				}
			})
		}
	}
}

// TestTargetAnswersAndGoes: an answer counts, though the target closes its
// connection behind it with the viewer's body still open.
func TestTargetAnswersAndGoes(t *testing.T) {
	for _, kind := range targetKinds[:3] {
		for name, answer := range map[string]string{
			"length":    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"close":     "HTTP/1.1 200 OK\r\n\r\nok",
			"close, 10": "HTTP/1.0 200 OK\r\n\r\nok",
			"chunked":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		} {
			t.Run(kind+"/"+name, func(t *testing.T) {
				over := make(chan struct{})
				addr, o := connTarget(t, kind, func(c net.Conn, _ http.ResponseWriter, _ *http.Request) {
					io.WriteString(c, answer)
					c.(interface{ CloseWrite() error }).CloseWrite()
					<-over
					panic(http.ErrAbortHandler)
				})
				defer close(over)
				resp, _ := quietPost(t, tunnelTo(t, proxyTo(t, addr, o)), -1)
				if b, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(b) != "ok" || err != nil {
					t.Errorf("got %s, %q, %v", resp.Status, b, err)
				}
			})
		}
	}
}

// TestBodyFlowsOnAfterAnswer: an answer that came early leaves the body open.
func TestBodyFlowsOnAfterAnswer(t *testing.T) {
	for _, kind := range targetKinds {
		t.Run(kind, func(t *testing.T) {
			addr, o := connTarget(t, kind, func(_ net.Conn, w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).Flush()
				io.Copy(w, r.Body)
			})
			resp, rest := quietPost(t, tunnelTo(t, proxyTo(t, addr, o)), -1)
			if _, err := io.WriteString(rest, "def"); err != nil {
				t.Error(err)
			}
			rest.Close()
			if b, err := io.ReadAll(resp.Body); string(b) != "def" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
		})
	}
}

// TestTargetConnTraced: who traces a request through the handler gets at the
// connection's options.
func TestTargetConnTraced(t *testing.T) {
	for _, kind := range targetKinds {
		t.Run(kind, func(t *testing.T) {
			addr, o := connTarget(t, kind, func(net.Conn, http.ResponseWriter, *http.Request) {})
			var conn net.Conn
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				GotConn: func(i httptrace.GotConnInfo) { conn = i.Conn },
			})
			req := httptest.NewRequestWithContext(ctx, "POST", "/", strings.NewReader("abc"))
			rec := httptest.NewRecorder()
			proxyTo(t, addr, o).ServeHTTP(rec, req)
			if rec.Code != 200 || conn == nil {
				t.Fatalf("got %d over %v", rec.Code, conn)
			}
			if tc, ok := conn.(*tls.Conn); ok {
				conn = tc.NetConn()
			}
			if _, ok := conn.(interface{ CloseWrite() error }); !ok {
				t.Errorf("%T has no CloseWrite", conn)
			}
			if l, ok := conn.(interface{ SetLinger(int) error }); kind != "unix" && (!ok || l.SetLinger(0) != nil) {
				t.Errorf("%T has no SetLinger", conn)
			}
			if nc, ok := conn.(interface{ NetConn() net.Conn }); ok {
				conn = nc.NetConn()
			}
			switch conn.(type) {
			case *net.TCPConn, *net.UnixConn:
			default:
				t.Errorf("there is a %T beneath", conn)
			}
		})
	}
}
