package server

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSwitchBeforeBody: a tunnel client that switches protocols before it has the
// body of the request made two readers of the viewer's connection. The viewer gets
// its 101 when it has sent the body, and what follows arrives.
func TestSwitchBeforeBody(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		line, err := brw.ReadString('\n')
		fmt.Fprintf(conn, "%q, %v", line, err)
	})))
	piece := strings.Repeat("x", 5000)
	for name, tc := range map[string]struct{ header, piece, end string }{
		"length":  {fmt.Sprintf("Content-Length: %d", 100*len(piece)), piece, ""},
		"chunked": {"Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece), "0\r\n\r\n"},
	} {
		for range 10 {
			c, br := s.dialRaw("POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" + tc.header + "\r\n\r\n")
			go func() {
				for range 100 {
					io.WriteString(c, tc.piece)
				}
				io.WriteString(c, tc.end+"after\n")
			}()
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%s: got %v, %v", name, resp, err)
			}
			if b, err := io.ReadAll(br); string(b) != `"after\n", <nil>` || err != nil {
				t.Errorf("%s: got %q, %v", name, b, err)
			}
			c.Close()
		}
	}
}

// TestRoundTripperClosesBody: the body of a request of Go code is closed whatever
// the answer is (see http.RoundTripper).
func TestRoundTripperClosesBody(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.Header.Get("Upgrade") == "" {
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	})))
	for _, upgrade := range []bool{false, true} {
		body := &closeCounter{Reader: strings.NewReader("body")}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = 4
		if upgrade {
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "tcp")
		}
		resp, err := s.RoundTripper("a").RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if (resp.StatusCode == 101) != upgrade {
			t.Errorf("status %d", resp.StatusCode)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if body.closed == 0 {
			t.Errorf("upgrade %v: the body is open", upgrade)
		}
	}
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error {
	c.closed++
	return nil
}

// brokenHijacker is a ResponseWriter of a viewer whose connection breaks before the 101.
type brokenHijacker struct{ *httptest.ResponseRecorder }

func (w brokenHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, peer := net.Pipe()
	peer.Close()
	return c, bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c)), nil
}

// TestSwitchNotWritten: a viewer who does not get the 101 has left. The connection is
// hijacked by then, so that nothing else can be written.
func TestSwitchNotWritten(t *testing.T) {
	done := make(chan *RequestInfo, 1)
	s := newService(t, Config{RequestDone: func(i *RequestInfo) { done <- i }})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		io.Copy(io.Discard, c)
	})))
	r := httptest.NewRequest(http.MethodGet, "/a/", nil)
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"x"}}
	w := brokenHijacker{httptest.NewRecorder()}
	s.ServeHTTP(w, r)
	if i := <-done; i.Status != 0 || !i.Begun.IsZero() || i.FailedHop != "viewer" || i.ErrorCode != "WT-VIEWER-LEFT" || !i.Broken {
		t.Errorf("%+v", i)
	}
	if w.Body.Len() > 0 || w.Header().Get("Proxy-Status") != "" {
		t.Errorf("written after Hijack: %q %v", w.Body, w.Header())
	}
}

// TestTargetLeavesFirst: a target that closes while its viewer says nothing. The viewer has
// all that was sent and a clean end, and may take its time.
func TestTargetLeavesFirst(t *testing.T) {
	done := make(chan *RequestInfo, 1)
	s := newService(t, Config{RequestDone: func(i *RequestInfo) { done <- i }})
	text := strings.Repeat("goodbye ", 1<<10)
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, brw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		brw.ReadByte()
		io.WriteString(c, text)
	})))
	for range 10 {
		c, br := s.dialRaw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("got %v, %v", resp, err)
		}
		io.WriteString(c, "1")
		if b, err := io.ReadAll(br); string(b) != text || err != nil {
			t.Errorf("read %d bytes of %d, %v", len(b), len(text), err)
		}
		c.Close()
		if i := <-done; i.Status != http.StatusSwitchingProtocols || i.Sent != int64(len(text)) || i.Received != 1 || i.Broken || i.FailedHop != "" {
			t.Errorf("%+v", i)
		}
	}
}
