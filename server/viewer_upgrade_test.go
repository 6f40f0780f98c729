package server

import (
	"fmt"
	"io"
	"net/http"
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
