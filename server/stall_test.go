package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestStalledHTTP2Viewer: its connection is alive, but it gives its stream no
// window. The stream is reset, and others of the connection go on.
func TestStalledHTTP2Viewer(t *testing.T) {
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond})
	cancelled := make(chan struct{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ok" {
			io.WriteString(w, "ok")
			return
		}
		defer close(cancelled)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	cc := s.http2Viewer()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", s.url+"/a/", nil)
	resp, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	select { // nobody reads the body
	case <-cancelled:
	case <-time.After(20 * time.Second):
		t.Fatal("the target still sends")
	}
	req, _ = http.NewRequestWithContext(t.Context(), "GET", s.url+"/a/ok", nil)
	resp2, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp2.Body.Close()
	if b, err := io.ReadAll(resp2.Body); string(b) != "ok" || err != nil {
		t.Errorf("another stream got %q, %v", b, err)
	}
}

// TestStalledUpgrade: a target that takes nothing of an upgraded stream loses
// it, and one that is merely quiet does not.
func TestStalledUpgrade(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		if r.URL.Path == "/quiet" {
			p := make([]byte, 5)
			if _, err := io.ReadFull(conn, p); err != nil {
				t.Error(err)
			}
			conn.Write(p)
			return
		}
		<-r.Context().Done()
	}))
	dial := func(path string) net.Conn {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(conn, "GET /a"+path+" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		return conn
	}
	stalled := dial("/")
	for {
		if _, err := stalled.Write(make([]byte, 64<<10)); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the stalled stream was not cut")
			}
			break
		}
	}
	quiet := dial("/quiet")
	<-time.After(700 * time.Millisecond)
	io.WriteString(quiet, "hello")
	b, err := io.ReadAll(quiet)
	if err != nil || !strings.HasSuffix(string(b), "\r\n\r\nhello") {
		t.Errorf("the quiet stream got %q, %v", b, err)
	}
}

// TestRefusedWebsocketHTTP2: what holds for answers over HTTP/2 holds for one that
// refuses a websocket, too: a viewer that takes nothing of it loses it, one that does not
// take its header gets another, and the record says what the viewer speaks.
func TestRefusedWebsocketHTTP2(t *testing.T) {
	if !h2conn.ExtendedConnect {
		t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
	}
	done := make(chan *RequestInfo, 1)
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond, RequestDone: func(i *RequestInfo) { done <- i }})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/endless":
			w.WriteHeader(http.StatusForbidden)
			for {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/large":
			w.Header().Set("X-Large", strings.Repeat("x", maxViewerField))
			w.WriteHeader(http.StatusForbidden)
		default:
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			c.Close()
		}
	})))
	cc := s.http2Viewer()
	open := func(path string) *http.Response {
		pr, pw := io.Pipe()
		t.Cleanup(func() { pw.Close() })
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodConnect, s.url+path, pr)
		req.Header = http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}}
		resp, err := cc.RoundTrip(req)
		if err != nil {
			t.Fatal(path, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	for _, tc := range []struct {
		path      string
		got, want int
		code      string
	}{
		{"/a/endless", 403, 403, "WT-VIEWER-LEFT"}, // nobody reads the body
		{"/a/large", 502, 502, "WT-ANSWER-HEADER-TOO-LARGE"},
		{"/a/", 200, 101, ""},
		{"/nobody/", 404, 404, "WT-NO-TUNNEL"},
		{"/", 404, 404, "WT-NOT-FOUND"},
	} {
		if resp := open(tc.path); resp.StatusCode != tc.got {
			t.Errorf("%s: status %d, want %d", tc.path, resp.StatusCode, tc.got)
		}
		select {
		case i := <-done:
			if i.Proto != "HTTP/2.0" || i.Status != tc.want || i.ErrorCode != tc.code {
				t.Errorf("%s: %s, status %d, %s", tc.path, i.Proto, i.Status, i.ErrorCode)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s is not over", tc.path)
		}
	}
}
