package target_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// proxyTo makes a handler that is cleaned up with the test.
func proxyTo(t *testing.T, addr string, o target.Options) http.Handler {
	t.Helper()
	h, err := target.New(addr, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.CloseIdleConnections)
	return h
}

// ways runs f with h behind a plain server and behind a whole tunnel, as the
// viewer sees them.
func ways(t *testing.T, h http.Handler, f func(t *testing.T, srv *httptest.Server)) {
	t.Run("direct", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(h)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.Start()
		defer srv.Close()
		f(t, srv)
	})
	t.Run("tunnel", func(t *testing.T) {
		fs := tunnelTo(t, h)
		srv := httptest.NewUnstartedServer(&httputil.ReverseProxy{
			Rewrite: func(pr *httputil.ProxyRequest) {
				pr.Out.URL = &url.URL{Scheme: "http", Host: "tunnel", Opaque: strings.Split(pr.In.RequestURI, "?")[0], RawQuery: pr.In.URL.RawQuery, ForceQuery: pr.In.URL.ForceQuery}
				if strings.HasPrefix(pr.Out.URL.Opaque, "//") {
					pr.Out.URL.Opaque = "//" + pr.In.Host + pr.Out.URL.Opaque
				}
				for k, vv := range pr.In.Header {
					if strings.HasPrefix(k, "X-Forwarded-") || k == "Forwarded" {
						pr.Out.Header[k] = vv
					}
				}
				pr.Out.Trailer = pr.In.Trailer
			},
			Transport:     fs.asking,
			FlushInterval: -1,
			ErrorLog:      log.New(io.Discard, "", 0),
		})
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.Start()
		defer srv.Close()
		f(t, srv)
	})
}

// rawTarget is a TCP server that records the head of each request and answers
// with fixed bytes, then closes the connection.
func rawTarget(t *testing.T, answer string) (addr string, heads <-chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			br := bufio.NewReader(conn)
			var head strings.Builder
			for {
				line, err := br.ReadString('\n')
				head.WriteString(line)
				if err != nil || line == "\r\n" {
					break
				}
			}
			got <- head.String()
			io.WriteString(conn, answer)
			conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, br)
			conn.Close()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
	})
	return ln.Addr().String(), got
}

// exchange sends raw bytes to a server and returns the answer's head and body.
func exchange(t *testing.T, srv *httptest.Server, request string) (head, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, request)
	b, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ = strings.Cut(string(b), "\r\n\r\n")
	return head, body
}

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

func TestProxyRequestLine(t *testing.T) {
	addr, heads := rawTarget(t, noContent)
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		for _, target := range []string{
			"/", "/a/b", "/?", "/?x=1", "/a?", "/?a=1;b=2&c=%zz", "/?a=%", "/??a=b?", "/a;b=1", "/a:b",
			"//x/%2F/../y", "//", "//evil.example/x", "///a", "//a?b//c", "/./a/../b/", "/%2e%2E/", "/%41", "/%e4%00",
			"/[]/", "/a|b", `/"{}^\` + "`", "/a#b", "/\xe4\xff", "/?q=\xe4|\"", "/http://x/", "/?u=http://x/", "/@:80/",
		} {
			exchange(t, srv, "GET "+target+" HTTP/1.1\r\nHost: Viewer.Example:81\r\nConnection: close\r\n\r\n")
			head := <-heads
			if want := "GET " + target + " HTTP/1.1\r\nHost: Viewer.Example:81\r\n"; !strings.HasPrefix(head, want) {
				t.Errorf("target got %q, want %q", strings.Split(head, "\r\n")[0], strings.Split(want, "\r\n")[0])
			}
		}
	})
}

func TestRequestTarget(t *testing.T) {
	for _, tt := range []struct {
		name       string
		requestURI string
		path       string // of URL, changed by a handler in between; "": not changed
		want       string
	}{
		{"as it came", "/a%2fb?c=%zz", "", "/a%2fb?c=%zz"},
		{"no RequestURI", "", "/a b", "/a%20b"},
		{"prefix stripped", "/p/a?b", "/a", "/a?b"},
		{"prefix stripped without slash", "/pa?b", "a", "/a?b"},
		{"prefix stripped wholly", "/p", "", "/p"},
		{"absolute form", "http://evil.example/a?b", "", "/a?b"},
		{"asterisk", "*", "", "*"},
		{"space from HTTP/2", "/a b?c d", "", "/a%20b?c%20d"},
		{"two slashes and odd bytes", "//a|b", "", "//a%7Cb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RequestURI: tt.requestURI, URL: &url.URL{}}
			if tt.requestURI != "" {
				u, err := url.ParseRequestURI(tt.requestURI)
				if err != nil {
					t.Fatal(err)
				}
				r.URL = u
			}
			if tt.path != "" {
				r.URL.Path, r.URL.RawPath = tt.path, ""
			}
			u := target.RequestTarget(r)
			u.Scheme, u.Host = "http", "target"
			if got := u.RequestURI(); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestProxyRequestHeader(t *testing.T) {
	addr, heads := rawTarget(t, noContent)
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		sent := []string{
			"Accept: */*",
			"Cookie: a=1; b=2",
			"Forwarded: for=192.0.2.1",
			"X-Forwarded-For: 192.0.2.1",
			"X-Forwarded-Host: h",
			"X-Forwarded-Prefix: /build-42",
			"X-Forwarded-Proto: https",
			"X-Twice: 1",
			"X-Twice: 2",
			"X-Websocktunnel-Original-Path: /build-42/",
		}
		exchange(t, srv, "GET / HTTP/1.1\r\nHost: h\r\n"+strings.Join(sent, "\r\n")+
			"\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nTe: trailers, gzip\r\n\r\n")
		got := strings.Split(strings.TrimSpace(<-heads), "\r\n")[2:]
		slices.Sort(got)
		want := append([]string{"Te: trailers"}, sent...)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("target got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestProxyHostHeader(t *testing.T) {
	addr, heads := rawTarget(t, noContent)
	h := proxyTo(t, addr, target.Options{HostHeader: "app.internal:8080"})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://viewer/", nil))
	if head := <-heads; !strings.Contains(head, "\r\nHost: app.internal:8080\r\n") {
		t.Errorf("target got %q", head)
	}
	for _, bad := range []string{"a b", "a/b", "u@h", "a\r\nb"} {
		if _, err := target.New(addr, target.Options{HostHeader: bad}); err == nil {
			t.Errorf("HostHeader %q was accepted", bad)
		}
	}
}

// Nothing in a request decides where it goes.
func TestProxyGoesNowhereElse(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	addr, heads := rawTarget(t, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		for _, request := range []string{
			"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n",
			"GET //169.254.169.254/x HTTP/1.1\r\nHost: h\r\n",
		} {
			head, _ := exchange(t, srv, request+"Connection: close\r\n\r\n")
			<-heads
			if !strings.HasPrefix(head, "HTTP/1.1 302") || !strings.Contains(head, "Location: http://127.0.0.1:1/") {
				t.Errorf("%q: answer %q", request, head)
			}
		}
	})
	rec := httptest.NewRecorder()
	proxyTo(t, addr, target.Options{}).ServeHTTP(rec, httptest.NewRequest(http.MethodConnect, "http://x:1", nil))
	if rec.Code != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: %d", rec.Code)
	}
}

// The target's answer arrives with nothing added, whatever the body looks like.
func TestProxyAnswerUnaltered(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		want         []string
	}{
		{"no type, no date", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", []string{"Content-Length: 6"}},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", []string{"Content-Length: 0"}},
		{"not modified", "HTTP/1.1 304 Not Modified\r\nEtag: \"1\"\r\n\r\n", []string{`Etag: "1"`}},
		{"all its own", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nContent-Type: a/b\r\nDate: yesterday\r\nServer: s\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-E:\r\nX-Websocktunnel-Error: dns_error\r\nConnection: close\r\n\r\nno",
			[]string{"Content-Length: 2", "Content-Type: a/b", "Date: yesterday", "Server: s", "Set-Cookie: a", "Set-Cookie: b", "X-E:"}},
		{"after 103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", []string{"Content-Length: 6"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, heads := rawTarget(t, tt.answer)
			ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
				// The viewer's server of the test adds these itself.
				inner := srv.Config.Handler
				srv.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					inner.ServeHTTP(&noSniff{ResponseWriter: w}, r)
				})
				head, _ := exchange(t, srv, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				<-heads
				if strings.HasPrefix(head, "HTTP/1.1 103") {
					t.Errorf("103 was not followed by its answer: %q", head)
				}
				got := slices.DeleteFunc(strings.Split(head, "\r\n")[1:], func(s string) bool { return s == "Connection: close" })
				for i := range got {
					got[i] = strings.TrimSpace(got[i])
				}
				slices.Sort(got)
				if !slices.Equal(got, tt.want) {
					t.Errorf("viewer got %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// noSniff keeps net/http from adding a type and date for the viewer's side of
// these tests, and drops 1xx.
type noSniff struct{ http.ResponseWriter }

func (w *noSniff) WriteHeader(status int) {
	if status < 200 {
		return
	}
	for _, k := range []string{"Content-Type", "Date"} {
		if _, ok := w.Header()[k]; !ok {
			w.Header()[k] = nil
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *noSniff) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// targetServer runs h as a target and returns its address.
func targetServer(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func viewer(t *testing.T) *http.Client {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// Bytes move when they come, whether or not the length is known.
func TestProxyPromptness(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header http.Header
	}{
		{"events", http.Header{"Content-Type": {"text/event-stream"}}},
		{"chunked", http.Header{"Content-Type": {"text/plain"}}},
		{"known length", http.Header{"Content-Length": {"6"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			step := make(chan struct{})
			addr := targetServer(t, func(w http.ResponseWriter, _ *http.Request) {
				maps.Copy(w.Header(), tt.header)
				for _, s := range []string{"", "ab", "cd", "ef"} {
					io.WriteString(w, s)
					w.(http.Flusher).Flush()
					<-step
				}
			})
			ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
				resp, err := viewer(t).Get(srv.URL) // returns with the header alone
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				step <- struct{}{}
				for _, want := range []string{"ab", "cd", "ef"} {
					var b [2]byte
					if _, err := io.ReadFull(resp.Body, b[:]); err != nil || string(b[:]) != want {
						t.Fatalf("%q, %v; want %q", b, err, want)
					}
					step <- struct{}{}
				}
				if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
					t.Errorf("at the end %q, %v", rest, err)
				}
			})
		})
	}
}

func TestProxyFullDuplex(t *testing.T) {
	addr := targetServer(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		br := bufio.NewReader(r.Body)
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(w, "echo "+line)
			rc.Flush()
		}
	})
	h := proxyTo(t, addr, target.Options{})
	fs := tunnelTo(t, h)
	pr, pw := io.Pipe()
	req, err := http.NewRequest(http.MethodPost, "http://tunnel/", pr)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := fs.asking.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	for i := range 3 {
		fmt.Fprintln(pw, i)
		if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("echo %d\n", i) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil {
		t.Errorf("at the end %q, %v", rest, err)
	}
}

func TestProxyTrailers(t *testing.T) {
	addr := targetServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "body" || r.Trailer.Get("X-Sum") != "42" {
			t.Errorf("target got %q, trailer %v, %v", body, r.Trailer, err)
		}
		w.Header().Set("Trailer", "X-Announced")
		io.WriteString(w, "answer")
		w.Header().Set("X-Announced", "1")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	})
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		req, err := http.NewRequest(http.MethodPost, srv.URL, struct{ io.Reader }{strings.NewReader("body")})
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Sum": {"42"}}
		resp, err := viewer(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "answer" || resp.Trailer.Get("X-Announced") != "1" || resp.Trailer.Get("X-Late") != "2" {
			t.Errorf("viewer got %q, trailer %v, %v", body, resp.Trailer, err)
		}
	})
}

func TestProxyExpectContinue(t *testing.T) {
	addr := targetServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		io.Copy(w, r.Body)
	})
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		c := viewer(t)
		c.Transport.(*http.Transport).ExpectContinueTimeout = 20 * time.Second
		for path, want := range map[string]int{"/yes": 200, "/no": 413} {
			got100 := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, _ textproto.MIMEHeader) error { got100 = got100 || code == 100; return nil },
			})
			req, err := http.NewRequestWithContext(ctx, http.MethodPut, srv.URL+path, strings.NewReader("data"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Expect", "100-continue")
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != want || want == 200 && string(body) != "data" {
				t.Errorf("%s: %d %q, %v", path, resp.StatusCode, body, err)
			}
			if path == "/yes" && !got100 {
				t.Errorf("%s: no 100 Continue", path)
			}
		}
	})
}

// TestProxyUpgradeChoice: a target takes one of the protocols that an Upgrade
// header lists, and may spell it in its own way.
func TestProxyUpgradeChoice(t *testing.T) {
	for _, tt := range []struct {
		asks, answer string
		want         int
	}{
		{"foo/1, bar", "foo/1", 101},
		{"bar,FOO/1", "foo/1", 101},
		{"FOO/1", "foo/1", 101},
		{"foo/1, bar", "baz", 502},
	} {
		t.Run(tt.asks+" becomes "+tt.answer, func(t *testing.T) {
			addr, _ := rawTarget(t, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+tt.answer+"\r\n\r\nhello")
			ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
				if strings.HasSuffix(t.Name(), "/tunnel") && strings.Contains(tt.asks, ",") {
					t.Skip("the viewer's proxy of this test wants one protocol; internal/e2e has the real one")
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {tt.asks}}
				resp, err := viewer(t).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != tt.want {
					t.Fatalf("%s", resp.Status)
				}
				if tt.want != http.StatusSwitchingProtocols {
					return
				}
				if got := resp.Header.Get("Upgrade"); got != tt.answer {
					t.Errorf("the viewer sees %q", got)
				}
				hello := make([]byte, 5)
				if _, err := io.ReadFull(resp.Body, hello); err != nil || string(hello) != "hello" {
					t.Errorf("%q, %v", hello, err)
				}
			})
		})
	}
}

func TestProxyWebsocket(t *testing.T) {
	coder := func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo.v1"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for {
			typ, b, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(b) == "bye" {
				c.Close(4321, "see you")
				return
			}
			if c.Write(r.Context(), typ, b) != nil {
				return
			}
		}
	}
	up := gorilla.Upgrader{Subprotocols: []string{"echo.v1"}}
	gor := func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			typ, b, err := c.ReadMessage()
			if err != nil {
				return
			}
			if string(b) == "bye" {
				c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(4321, "see you"), time.Now().Add(time.Second))
				c.ReadMessage()
				return
			}
			if c.WriteMessage(typ, b) != nil {
				return
			}
		}
	}
	plain := func(t *testing.T, h http.HandlerFunc) (string, target.Options) {
		return targetServer(t, h), target.Options{}
	}
	overTLS := func(t *testing.T, h http.HandlerFunc) (string, target.Options) {
		srv := httptest.NewUnstartedServer(h)
		srv.EnableHTTP2 = true
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL, target.Options{InsecureSkipVerify: true}
	}
	cleartext := func(t *testing.T, h http.HandlerFunc) (string, target.Options) {
		return h2cServer(t, h), target.Options{}
	}
	for _, tt := range []struct {
		name   string
		target func(*testing.T, http.HandlerFunc) (string, target.Options)
		echo   http.HandlerFunc
	}{
		{"coder", plain, coder},
		{"gorilla", plain, gor},
		{"https", overTLS, gor},
		{"h2c", cleartext, coder},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, o := tt.target(t, tt.echo)
			ways(t, proxyTo(t, addr, o), func(t *testing.T, srv *httptest.Server) {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				c, _, err := websocket.Dial(ctx, srv.URL, &websocket.DialOptions{
					Subprotocols: []string{"echo.v1"}, HTTPClient: viewer(t),
				})
				if err != nil {
					t.Fatal(err)
				}
				defer c.CloseNow()
				c.SetReadLimit(-1)
				if c.Subprotocol() != "echo.v1" {
					t.Errorf("subprotocol %q", c.Subprotocol())
				}
				for _, n := range []int{0, 1, 125, 70000, 1 << 20} {
					want := bytes.Repeat([]byte{byte(n)}, n)
					if err := c.Write(ctx, websocket.MessageBinary, want); err != nil {
						t.Fatal(err)
					}
					if _, got, err := c.Read(ctx); err != nil || !bytes.Equal(got, want) {
						t.Fatalf("%d bytes came back as %d, %v", n, len(got), err)
					}
				}
				c.Write(ctx, websocket.MessageText, []byte("bye"))
				if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4321 {
					t.Errorf("close: %v", err)
				}
			})
		})
	}
}

// A target may refuse an upgrade, in its own words.
func TestProxyUpgradeRefused(t *testing.T) {
	addr := targetServer(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "not for you", http.StatusForbidden)
	})
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		head, body := exchange(t, srv, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
		if !strings.HasPrefix(head, "HTTP/1.1 403") || !strings.Contains(body, "not for you") {
			t.Errorf("%q %q", head, body)
		}
	})
}

// h2cServer runs h as a target that speaks HTTP/1.1 and HTTP/2 in cleartext.
func h2cServer(t *testing.T, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	t.Cleanup(srv.Close)
	return "h2c://" + srv.Listener.Addr().String()
}

func TestProxyForms(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Proto, r.RequestURI)
	})
	get := func(t *testing.T, addr string, o target.Options) string {
		t.Helper()
		rec := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, "/x", nil)
		r.RequestURI, r.URL.Path = "//a/%2F?b", "//a///"
		r.URL.RawPath, r.URL.RawQuery = "//a/%2F", "b"
		r.URL.Path = "//a//"
		proxyTo(t, addr, o).ServeHTTP(rec, r)
		return fmt.Sprint(rec.Code, " ", rec.Body)
	}
	t.Run("port", func(t *testing.T) {
		_, port, _ := net.SplitHostPort(targetServer(t, echo))
		if got := get(t, port, target.Options{}); got != "200 HTTP/1.1 //a/%2F?b" {
			t.Error(got)
		}
	})
	t.Run("port on ::1", func(t *testing.T) {
		ln, err := net.Listen("tcp6", "[::1]:0")
		if err != nil {
			t.Skip("no IPv6: ", err)
		}
		srv := httptest.NewUnstartedServer(echo)
		srv.Listener.Close()
		srv.Listener = ln
		srv.Start()
		defer srv.Close()
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		if got := get(t, port, target.Options{}); got != "200 HTTP/1.1 //a/%2F?b" {
			t.Error(got)
		}
	})
	t.Run("http URL", func(t *testing.T) {
		if got := get(t, "http://"+targetServer(t, echo)+"/", target.Options{}); got != "200 HTTP/1.1 //a/%2F?b" {
			t.Error(got)
		}
	})
	t.Run("unix", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s p%20ce.sock")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Skip("no unix sockets: ", err)
		}
		srv := httptest.NewUnstartedServer(echo)
		srv.Listener.Close()
		srv.Listener = ln
		srv.Start()
		defer srv.Close()
		if got := get(t, "unix://"+path, target.Options{}); got != "200 HTTP/1.1 //a/%2F?b" {
			t.Error(got)
		}
	})
	t.Run("h2c", func(t *testing.T) {
		if got := get(t, h2cServer(t, echo), target.Options{}); got != "200 HTTP/2.0 //a/%2F?b" {
			t.Error(got)
		}
	})
	t.Run("https", func(t *testing.T) {
		for _, h2 := range []bool{false, true} {
			srv := httptest.NewUnstartedServer(echo)
			srv.EnableHTTP2 = h2
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.StartTLS()
			defer srv.Close()
			want := map[bool]string{false: "200 HTTP/1.1 //a/%2F?b", true: "200 HTTP/2.0 //a/%2F?b"}[h2]
			if got := get(t, srv.URL, target.Options{InsecureSkipVerify: true}); got != want {
				t.Errorf("unverified: %s", got)
			}
			roots := srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
			cfg := &tls.Config{RootCAs: roots}
			if got := get(t, srv.URL, target.Options{TLSConfig: cfg}); got != want {
				t.Errorf("verified: %s", got)
			}
			if len(cfg.NextProtos) > 0 || cfg.InsecureSkipVerify {
				t.Error("the caller's TLSConfig was changed")
			}
		}
	})
}

// gRPC needs HTTP/2 to the end, trailers, and answers that are trailers only.
func TestProxyTrailersOnly(t *testing.T) {
	addr := h2cServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "5")
	}))
	fs := tunnelTo(t, proxyTo(t, addr, target.Options{}))
	for range 200 {
		req, err := http.NewRequest(http.MethodPost, "http://tunnel/svc/Method", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Te", "trailers")
		resp, err := fs.asking.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		// The length is known at once only if the header ended the stream.
		if resp.ContentLength != 0 || resp.Header.Get("Grpc-Status") != "5" {
			t.Fatalf("length %d, header %v", resp.ContentLength, resp.Header)
		}
		resp.Body.Close()
	}
}

func TestProxyTargetErrors(t *testing.T) {
	raw := func(answer string) func(*testing.T) string {
		return func(t *testing.T) string { addr, _ := rawTarget(t, answer); return addr }
	}
	tlsTarget := func(t *testing.T) string {
		srv := httptest.NewUnstartedServer(hello)
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	for _, tt := range []struct {
		name   string
		target func(*testing.T) string
		kind   string
		body   string
	}{
		{"refused", target.Refusing, "connection_refused", "the target refused the connection\n"},
		{"refused port", func(t *testing.T) string { _, p, _ := net.SplitHostPort(target.Refusing(t)); return p }, "connection_refused", "the target refused the connection\n"},
		{"no socket", func(t *testing.T) string { return "unix://" + t.TempDir() + "/none" }, "destination_unavailable", "the target cannot be reached\n"},
		{"hangs up", raw(""), "connection_terminated", "the target closed the connection before it answered\n"},
		{"half a header", raw("HTTP/1.1 200 OK\r\nA: b"), "http_response_incomplete", "the target's answer broke off\n"},
		{"no HTTP", raw("SSH-2.0-OpenSSH\r\n\r\n"), "http_protocol_error", "the target's answer is not valid HTTP\n"},
		{"huge header", raw("HTTP/1.1 200 OK\r\nSet-Cookie: " + strings.Repeat("x", 300<<10) + "\r\n\r\n"), "http_response_header_section_size", "the header of the target's answer is too large\n"},
		{"many headers", raw("HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 10000) + "\r\n"), "http_response_header_section_size", "the header of the target's answer is too large\n"},
		{"untrusted", tlsTarget, "tls_certificate_error", "the certificate of the target is not trusted\n"},
		{"no TLS", func(t *testing.T) string { return "https://" + targetServer(t, hello) }, "tls_protocol_error", "the target does not speak TLS as expected\n"},
		{"other protocol", raw("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"), "http_upgrade_failed", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var logged bytes.Buffer
			addr := tt.target(t)
			h := proxyTo(t, addr, target.Options{Logger: zerolog.New(&logged)})
			rec := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/path?secret=1", nil)
			if tt.name == "other protocol" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "mine")
			}
			h.ServeHTTP(rec, r)
			if rec.Code != http.StatusBadGateway || rec.Header().Get(wire.HeaderError) != tt.kind || tt.body != "" && rec.Body.String() != tt.body {
				t.Errorf("%d %q %q; want %q %q", rec.Code, rec.Header().Get(wire.HeaderError), rec.Body, tt.kind, tt.body)
			}
			if !strings.Contains(logged.String(), tt.kind) || strings.Contains(logged.String(), "secret") {
				t.Errorf("log: %s", logged.String())
			}
		})
	}
}

// An answer that breaks off never looks complete, and does not cost the tunnel.
func TestProxyTargetDiesMidBody(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
	} {
		addr, _ := rawTarget(t, answer)
		ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
			for range 2 {
				resp, err := viewer(t).Get(srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil || string(body) != "half" {
					t.Errorf("%q, %v", body, err)
				}
			}
		})
	}
}

// A viewer that leaves ends the request at the target, and gets no answer.
func TestProxyViewerLeaves(t *testing.T) {
	arrived, ended := make(chan struct{}), make(chan struct{})
	addr := targetServer(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	})
	ways(t, proxyTo(t, addr, target.Options{}), func(t *testing.T, srv *httptest.Server) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp, err := viewer(t).Do(req); err == nil {
				resp.Body.Close()
				t.Error("the request was answered")
			}
		}()
		<-arrived
		cancel()
		<-ended
		<-done
	})
}

// What is too large for the tunnel costs one request, not the tunnel.
func TestProxyHugeHeaderInTunnel(t *testing.T) {
	addr := targetServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/one":
			w.Header().Set("X-Big", strings.Repeat("x", 300<<10))
		case "/many":
			for i := range 20000 {
				w.Header().Add("X-Many", fmt.Sprint(i))
			}
		case "/early":
			for i := range 4000 {
				w.Header().Add("Link", fmt.Sprintf("</a-long-enough-path-of-a-stylesheet/%d>", i))
			}
			w.WriteHeader(http.StatusEarlyHints)
			clear(w.Header())
		}
		hello(w, r)
	})
	fs := tunnelTo(t, proxyTo(t, addr, target.Options{}))
	for _, path := range []string{"/one", "/many"} {
		fs.expect(path, "the header of the target's answer is too large\n")
	}
	fs.expect("/early", "hello /early")
	fs.expect("/", "hello /")
}
