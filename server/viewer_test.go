package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/docs"
	"github.com/websocktunnel/websocktunnel/internal/interim"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestErrorPages(t *testing.T) {
	s := newService(t, Config{})
	s.connect("down", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(wire.HeaderError, r.URL.Query().Get("kind"))
		w.WriteHeader(http.StatusBadGateway)
		io.WriteString(w, "dial tcp 10.0.0.1:80: secret detail")
	}))
	for _, tc := range []struct {
		path, proxyStatus, code string
		status                  int
	}{
		{"/nobody/x", "websocktunnel; error=destination_not_found", "WT-NO-TUNNEL", 404},
		{"/", "websocktunnel; error=destination_not_found", "WT-NOT-FOUND", 404},
		{"/__heartbeat__/x", "websocktunnel; error=destination_not_found", "WT-RESERVED-PATH", 404},
		{"//x", "websocktunnel; error=http_request_error", "WT-MALFORMED-TARGET", 400},
		{"/%2e%2e/x", "websocktunnel; error=http_request_error", "WT-MALFORMED-TARGET", 400},
		{"/down/?kind=connection_refused", "websocktunnel-client; error=connection_refused", "WT-TARGET-REFUSED", 502},
		{"/down/?kind=<script>", "websocktunnel-client; error=proxy_internal_response", "WT-TARGET-NO-ANSWER", 502},
	} {
		for accept, typ := range map[string]string{
			"text/html,application/xhtml+xml,*/*;q=0.8": "text/html; charset=utf-8",
			"application/json":                          "application/json",
			"*/*":                                       "text/plain; charset=utf-8",
		} {
			resp, b := s.get(tc.path, "Accept", accept)
			if resp.StatusCode != tc.status || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), tc.proxyStatus+`; details="`+tc.code) || resp.Header.Get("Content-Type") != typ {
				t.Errorf("%s, Accept %s: got %d, %q, %q", tc.path, accept, resp.StatusCode, resp.Header.Get("Proxy-Status"), resp.Header.Get("Content-Type"))
			}
			if strings.Contains(b, "secret detail") || resp.Header.Get(wire.HeaderError) != "" || strings.Contains(b, "<script>") {
				t.Errorf("%s: the tunnel client's own words got through: %q", tc.path, b)
			}
			if typ == "application/json" {
				var m struct {
					Status int
					Code   string `json:"error_code"`
					Help   string
				}
				if err := json.Unmarshal([]byte(b), &m); err != nil || m.Status != tc.status || m.Code != tc.code || m.Help != docs.BaseURL+"errors.md#"+strings.ToLower(tc.code) {
					t.Errorf("%s: JSON body %q", tc.path, b)
				}
			}
			if !strings.Contains(b, tc.code) || strings.HasPrefix(typ, "text/html") != strings.Contains(b, `<a href="`+docs.BaseURL+`errors.md#`) {
				t.Errorf("%s: no code %s, or a wrong link: %q", tc.path, tc.code, b)
			}
		}
	}
	if got := s.raw("CONNECT down:80 HTTP/1.1\r\nHost: down:80\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 405 ") {
		t.Errorf("CONNECT got %q", got)
	}
	if got := s.raw("OPTIONS * HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("OPTIONS * got %q", got)
	}
	resp, b := s.get("/__version__")
	if resp.StatusCode != 200 || !json.Valid([]byte(b)) || !strings.Contains(b, `"commit"`) {
		t.Errorf("__version__ is %d %q", resp.StatusCode, b)
	}
}

// TestNothingAdded: what the target did not send, the viewer does not get.
func TestNothingAdded(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil
		w.Header()["Content-Type"] = nil
		w.Header()["X-Two"] = []string{"1", "2"}
		io.WriteString(w, "<html>")
	}))
	got := s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	head, _, _ := strings.Cut(got, "\r\n\r\n")
	want := []string{"HTTP/1.1 200 OK", "Content-Length: 6", "Connection: close", "X-Two: 1", "X-Two: 2"}
	lines := strings.Split(head, "\r\n")
	if len(lines) != len(want) {
		t.Errorf("head is %q", lines)
	}
	for _, w := range want {
		if !strings.Contains(head, w) {
			t.Errorf("no %q in %q", w, head)
		}
	}
}

func TestForwardedHeadersReachTarget(t *testing.T) {
	s := newService(t, Config{PublicURL: "https://tunnel.example/base"})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.Header.Write(w) }))
	_, b := s.get("/a/p/q?secret=1", "X-Real-Ip", "6.6.6.6", "X-Forwarded-For", "6.6.6.6", "X-Websocktunnel-Upgrade", "websocket", "X-Websocktunnel-X", "1")
	for _, want := range []string{
		"X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Prefix: /base/a\r\n",
		"X-Websocktunnel-Original-Path: /a/p/q\r\n", "Forwarded: for=127.0.0.1;",
	} {
		if !strings.Contains(b, want) {
			t.Errorf("no %q in %q", want, b)
		}
	}
	for _, forged := range []string{"6.6.6.6", "X-Websocktunnel-X", "X-Websocktunnel-Upgrade", "secret"} {
		if strings.Contains(b, forged) {
			t.Errorf("%q in %q", forged, b)
		}
	}
}

func TestPathIsolation(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := http.Header{"Service-Worker-Allowed": {"/"}, "Set-Cookie": {"a=b; Path=/; Domain=tunnel.example; HttpOnly"}, "X-Kept": {"1"}}
		if protocol := r.Header.Get("Upgrade"); protocol != "" {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", protocol)
			header.Write(conn)
			io.WriteString(conn, "\r\n")
			return
		}
		maps.Copy(w.Header(), header)
		w.WriteHeader(103)
		w.WriteHeader(200)
	})
	for _, off := range []bool{false, true} {
		s := newService(t, Config{DisablePathIsolation: off})
		s.connect("x", h)
		for request, want := range map[string][]string{
			"Connection: close\r\n":                   {"103", "200"},
			"Connection: Upgrade\r\nUpgrade: tcp\r\n": {"101"},
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n": {"101"},
		} {
			got := s.raw("GET /x/ HTTP/1.1\r\nHost: h\r\n" + request + "\r\n")
			answers := strings.SplitAfter(strings.TrimSuffix(got, "\r\n\r\n"), "\r\n\r\n")
			if len(answers) != len(want) {
				t.Errorf("isolation off=%v, %q: got %q", off, request, got)
				continue
			}
			for i, answer := range answers {
				answer += "\r\n"
				worker := strings.Contains(answer, "\r\nService-Worker-Allowed: ")
				isolated := strings.Contains(answer, "\r\nSet-Cookie: a=b; Path=/x; HttpOnly\r\n")
				asSent := strings.Contains(answer, "\r\nSet-Cookie: a=b; Path=/; Domain=tunnel.example; HttpOnly\r\n")
				if !strings.HasPrefix(answer, "HTTP/1.1 "+want[i]+" ") || !strings.Contains(answer, "\r\nX-Kept: 1\r\n") || worker != off || isolated == off || asSent != off {
					t.Errorf("isolation off=%v: %q", off, answer)
				}
			}
		}
	}
}

// TestEventsArriveAtOnce: a server-sent event is at the viewer within 50 ms of
// being written, but for those that a busy machine is late with, and none waits
// for the next.
func TestEventsArriveAtOnce(t *testing.T) {
	s := newService(t, Config{})
	events := make(chan string)
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for e := range events {
			fmt.Fprintf(w, "data: %s\n\n", e)
			w.(http.Flusher).Flush()
		}
	}))
	resp, err := s.http.Get(s.url + "/a/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	slow := 0
	for i := range 50 {
		start := time.Now()
		events <- fmt.Sprint(i)
		line, err := br.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Fatalf("event %d is %q, %v", i, line, err)
		}
		if time.Since(start) > 50*time.Millisecond {
			slow++
		}
		br.ReadString('\n')
	}
	close(events)
	if slow > 25 { // a timer would make all of them late
		t.Errorf("%d of 50 events took over 50 ms", slow)
	}
}

// TestParallelRequests: one tunnel, many viewers, bodies both ways.
func TestParallelRequests(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", echoHandler)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			text := strings.Repeat(fmt.Sprint(i, " "), 10000)
			resp, err := s.http.Post(s.url+"/a/", "text/plain", strings.NewReader(text))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err != nil || string(b) != text {
				t.Errorf("request %d: %d bytes of %d, %v", i, len(b), len(text), err)
			}
		})
	}
	wg.Wait()
}

// TestTunnelFull: a request over the limit waits, and then gets 503.
func TestTunnelFull(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{MaxStreams: 2})
	release := make(chan struct{})
	arrived := make(chan struct{}, 10)
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
	}))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { s.get("/a/") })
	}
	<-arrived
	<-arrived
	resp, text := s.get("/a/")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(text, string(codeTunnelBusy)) {
		t.Errorf("got %d, %q", resp.StatusCode, text)
	}
	waiting := make(chan int, 1)
	go func() {
		resp, _ := s.get("/a/")
		waiting <- resp.StatusCode
	}()
	close(release)
	if status := <-waiting; status != 200 {
		t.Errorf("one that waited got %d", status)
	}
	wg.Wait()
}

// TestTunnelDies: an answer that has begun breaks, one that has not is a 502.
func TestTunnelDies(t *testing.T) {
	s := newService(t, Config{})
	for _, tc := range []struct {
		name, proto string
		begin       func(w http.ResponseWriter)
	}{
		{"before the answer", "HTTP/1.1", nil},
		{"chunked", "HTTP/1.1", func(w http.ResponseWriter) { io.WriteString(w, "part"); w.(http.Flusher).Flush() }},
		{"with a length", "HTTP/1.1", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "part")
			w.(http.Flusher).Flush()
		}},
		{"HTTP/1.0", "HTTP/1.0", func(w http.ResponseWriter) { io.WriteString(w, "part"); w.(http.Flusher).Flush() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			arrived := make(chan struct{})
			c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tc.begin != nil {
					tc.begin(w)
				}
				close(arrived)
				<-r.Context().Done()
			}))
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprintf(conn, "GET /a/ %s\r\nHost: h\r\n\r\n", tc.proto)
			br := bufio.NewReader(conn)
			var resp *http.Response
			if tc.begin != nil {
				if resp, err = http.ReadResponse(br, nil); err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 4)
				if _, err := io.ReadFull(resp.Body, p); err != nil {
					t.Fatal(err)
				}
			}
			<-arrived
			c.conn.Close()
			if resp == nil {
				if resp, err = http.ReadResponse(br, nil); err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != 502 || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel; error=connection_terminated; details="WT-TUNNEL-BROKE`) {
					t.Errorf("got %d, %q", resp.StatusCode, resp.Header.Get("Proxy-Status"))
				}
				return
			}
			if b, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("the rest of the body, %q, looked complete", b)
			}
		})
	}
}

func TestResponseHeaderTimeout(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{ResponseHeaderTimeout: 500 * time.Millisecond}) // "/early" has to be faster
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			w.(http.Flusher).Flush() // then nothing for long: no timeout any more
			io.Copy(io.Discard, r.Body)
			return
		}
		<-r.Context().Done()
	}))
	for _, body := range []io.Reader{nil, strings.NewReader("x")} {
		req, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/a/", body)
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 504 || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel; error=http_response_timeout; details="WT-ANSWER-OVERDUE`) {
			t.Errorf("got %d, %q", resp.StatusCode, resp.Header.Get("Proxy-Status"))
		}
	}
	if resp, _ := s.get("/a/early"); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// TestStalledUpload: a target that takes nothing ends the request, one that is
// merely quiet does not.
func TestStalledUpload(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond})
	cancelled := make(chan struct{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(cancelled)
	}))
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/a/", zeros{})
	resp, err := s.http.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 502 || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel; error=connection_write_timeout; details="WT-STALLED`) {
			t.Errorf("got %d, %q", resp.StatusCode, resp.Header.Get("Proxy-Status"))
		}
	}
	<-cancelled

	// Quiet for several timeouts, in both directions.
	s.connect("quiet", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.(http.Flusher).Flush()
		<-time.After(700 * time.Millisecond)
		w.Write(b)
	}))
	pr, pw := io.Pipe()
	time.AfterFunc(700*time.Millisecond, func() { io.WriteString(pw, "done"); pw.Close() })
	resp, err = s.http.Post(s.url+"/quiet/", "text/plain", pr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); string(b) != "done" || err != nil {
		t.Errorf("got %q, %v", b, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestStalledViewer: a viewer that takes nothing is cut off, and the target
// learns it.
func TestStalledViewer(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{StallTimeout: 300 * time.Millisecond})
	cancelled := make(chan struct{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(cancelled)
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}))
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n")
	select {
	case <-cancelled:
	case <-time.After(20 * time.Second):
		t.Error("the target still sends")
	}
}

func TestViewerLeaves(t *testing.T) {
	s := newService(t, Config{})
	cancelled := make(chan struct{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(cancelled)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/a/", nil)
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	<-cancelled
	waitFor(t, func() bool {
		for info := range s.Tunnels() {
			return info.InFlight == 0
		}
		return false
	})
}

func TestTrailers(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Announced, Set-Cookie")
		fmt.Fprintf(w, "%v", r.Trailer)
		w.Header().Set("X-Announced", "1")
		w.Header().Set("Set-Cookie", "evil=1; Path=/")
		w.Header().Set(http.TrailerPrefix+"X-Late", "2")
	}))
	req, _ := http.NewRequestWithContext(t.Context(), "POST", s.url+"/a/", struct{ io.Reader }{strings.NewReader("body")})
	req.Trailer = http.Header{"X-Req": {"yes"}}
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if string(b) != "map[X-Req:[yes]]" {
		t.Errorf("request trailers are %s", b)
	}
	if resp.Trailer.Get("X-Announced") != "1" || resp.Trailer.Get("X-Late") != "2" || resp.Trailer.Get("Set-Cookie") != "" {
		t.Errorf("trailers are %v", resp.Trailer)
	}
}

// TestViewerProtocols: HTTP/1.1 and HTTP/2, with and without TLS, on the
// listener that Serve runs.
func TestViewerProtocols(t *testing.T) {
	cert := httptest.NewUnstartedServer(nil)
	cert.StartTLS()
	certs := cert.TLS.Certificates
	roots := cert.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	cert.Close()
	for _, tc := range []struct {
		name           string
		tls, h2, noH2C bool
		proto          string
	}{
		{"http/1.1", false, false, false, "HTTP/1.1"},
		{"h2c", false, true, false, "HTTP/2.0"},
		{"h2c off", false, true, true, ""},
		{"https http/1.1", true, false, false, "HTTP/1.1"},
		{"https h2", true, true, false, "HTTP/2.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := Config{DisableH2C: tc.noH2C}
			if tc.tls {
				cfg.TLSConfig = &tls.Config{Certificates: certs}
			}
			s := newService(t, cfg)
			tr := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}}
			defer tr.CloseIdleConnections()
			url := s.url
			if tc.tls {
				url = strings.Replace(url, "http:", "https:", 1)
			}
			tr.Protocols.SetHTTP1(!tc.h2)
			tr.Protocols.SetHTTP2(tc.h2 && tc.tls)
			tr.Protocols.SetUnencryptedHTTP2(tc.h2 && !tc.tls)
			conn, _, err := h2conn.Dial(t.Context(), url, h2conn.DialOptions{
				HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: tr.TLSClientConfig}},
				Header:      http.Header{"Authorization": {"Bearer " + mint(t, "a")}, wire.HeaderID: {"a"}},
				Subprotocol: wire.Subprotocol,
			})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			go h2conn.Serve(context.Background(), conn, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"))
			}), h2conn.ServeConfig{})
			resp, err := (&http.Client{Transport: tr}).Get(url + "/a/")
			if tc.proto == "" {
				if err == nil {
					resp.Body.Close()
					t.Fatalf("got %s", resp.Proto)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, _ := io.ReadAll(resp.Body)
			want := "http"
			if tc.tls {
				want = "https"
			}
			if resp.Proto != tc.proto || string(b) != want {
				t.Errorf("got %s %q", resp.Proto, b)
			}
		})
	}
}

// TestViewerExtendedConnect: a websocket of a viewer over HTTP/2 (RFC 8441)
// reaches a target that knows HTTP/1.1 only.
func TestViewerExtendedConnect(t *testing.T) {
	if !h2conn.ExtendedConnect {
		t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
	}
	for _, fallback := range []bool{false, true} {
		t.Run(fmt.Sprintf("fallback=%v", fallback), func(t *testing.T) {
			s := newService(t, Config{NoExtendedConnect: fallback})
			s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-Websocket-Key") == "" {
					t.Errorf("the target sees %s %v", r.Method, r.Header)
				}
				conn, brw, err := w.(http.Hijacker).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-Extra: 1\r\n\r\n")
				io.Copy(conn, brw)
			}))
			cc := s.http2Viewer()
			pr, pw := io.Pipe()
			req, _ := http.NewRequestWithContext(t.Context(), "CONNECT", s.url+"/a/ws", pr)
			req.Header = http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}}
			resp, err := cc.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 || resp.Header.Get("X-Extra") != "1" || resp.Header.Get("Sec-Websocket-Accept") != "" {
				t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
			}
			io.WriteString(pw, "hello")
			p := make([]byte, 5)
			if _, err := io.ReadFull(resp.Body, p); err != nil || string(p) != "hello" {
				t.Errorf("echo is %q, %v", p, err)
			}
			pw.Close()
			if b, err := io.ReadAll(resp.Body); len(b) > 0 || err != nil {
				t.Errorf("after the half-close: %q, %v", b, err)
			}
		})
	}
}

// TestRegistrationOverHTTP2: it takes HTTP/1.1, also where a websocket over
// HTTP/2 would be possible.
func TestRegistrationOverHTTP2(t *testing.T) {
	if !h2conn.ExtendedConnect {
		t.Skip("x/net/http2 of this build cannot serve extended CONNECT: needs the tag http2legacy")
	}
	s := newService(t, Config{})
	cc := s.http2Viewer()
	for _, method := range []string{"CONNECT", "GET"} {
		req, _ := http.NewRequestWithContext(t.Context(), method, s.url+"/", nil)
		req.Header = http.Header{
			"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Protocol": {wire.Subprotocol},
			wire.HeaderID: {"a"}, "Authorization": {"Bearer " + mint(t, "a")},
		}
		if method == "CONNECT" {
			req.Header[":protocol"] = []string{"websocket"}
		}
		resp, err := cc.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 426 || resp.Header.Get("Upgrade") != "" || resp.Header.Get(wire.HeaderClientURL) != "" {
			t.Errorf("%s: got %d %v", method, resp.StatusCode, resp.Header)
		}
	}
}

// TestMaxTunnels: who replaces a session needs no room.
func TestMaxTunnels(t *testing.T) {
	s := newService(t, Config{MaxTunnels: 1})
	s.connect("a", echoHandler)
	if _, resp, err := s.dial("b", mint(t, "b")); err == nil || resp == nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %v, %v", resp, err)
	}
	s.connect("a", echoHandler)
}

// TestAnswersOfNoBody: a 304 or 204 that names a length has no body all the
// same. The viewer once got a connection that was closed without a byte.
func TestAnswersOfNoBody(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.Header().Set("Etag", `"x"`)
		status, _ := strconv.Atoi(r.URL.Path[1:])
		w.WriteHeader(status)
	}))
	for _, status := range []int{204, 304} {
		resp, b := s.get(fmt.Sprint("/a/", status))
		if resp.StatusCode != status || b != "" || resp.Header.Get("Etag") != `"x"` {
			t.Errorf("got %d %q %v", resp.StatusCode, b, resp.Header)
		}
	}
}

// TestInterimAnswers: however many interim answers come, the final one arrives.
// More than ten were a 502.
func TestInterimAnswers(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</"+strings.Repeat("x", 500)+">")
		for range 10 * maxInterim {
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Set("X-Final", "1")
		w.WriteHeader(http.StatusOK)
	}))
	seen := 0
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { seen++; return nil }})
	for range 3 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/a/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Final") != "1" || seen == 0 || seen > 3*(maxInterim+10) {
			t.Errorf("%s after %d interim answers", resp.Status, seen)
		}
	}
	// For Go code that does not look at them either.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://a/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.RoundTripper("a").RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestBadInterimAnswers: the cause does not get lost.
func TestBadInterimAnswers(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range interim.Flood + 200 {
			w.WriteHeader(103)
		}
	}))
	resp, _ := s.get("/a/")
	if resp.StatusCode != 502 || !strings.HasPrefix(resp.Header.Get("Proxy-Status"), `websocktunnel; error=http_protocol_error; details="WT-BAD-ANSWER`) {
		t.Errorf("got %d, %q", resp.StatusCode, resp.Header.Get("Proxy-Status"))
	}
}

// TestUpgradeByPost: the 101 has nothing in it that the target did not send.
func TestUpgradeByPost(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/x-raw\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nbye")
	}))
	got := s.raw("POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
	want := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nContent-Type: application/x-raw\r\nUpgrade: tcp\r\n\r\nbye"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUpgradeEarlyBytes: what a viewer sends without waiting for the 101
// reaches the target. ReverseProxy loses what net/http has read of it.
func TestUpgradeEarlyBytes(t *testing.T) {
	s := newService(t, Config{})
	s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		conn, brw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		line, err := brw.ReadString('\n')
		fmt.Fprintf(conn, "%q, %v", line, err)
	}))
	for _, head := range []string{
		"GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
		"POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 4\r\n\r\nbody",
	} {
		if got := s.raw(head + "early\n"); !strings.HasSuffix(got, "\"early\\n\", <nil>") {
			t.Errorf("%.4s: got %q", head, got)
		}
	}
}

// TestTLSHTTP10: a viewer that offers nothing but HTTP/1.0 (curl --http1.0)
// is served over TLS too.
func TestTLSHTTP10(t *testing.T) {
	cert := httptest.NewTLSServer(nil)
	certs := cert.TLS.Certificates
	cert.Close()
	s := newService(t, Config{TLSConfig: &tls.Config{Certificates: certs}})
	c, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "http://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET /__heartbeat__ HTTP/1.0\r\n\r\n")
	b, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200 ") {
		t.Errorf("got %q, %v", b, err)
	}
}

// TestOfflineIsUnknown: an id whose client has left cannot be told from one that
// there never was: not by the answer, also while viewers wait for tunnels after
// the start, and not by the time it takes.
func TestOfflineIsUnknown(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{"": 0, "after the start": 1500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			s := newService(t, Config{StartupWait: wait})
			c := s.connect("gone", echoHandler)
			s.waitActive(c)
			if resp, _ := s.get("/gone/"); resp.StatusCode != 200 {
				t.Fatalf("while it is there: %d", resp.StatusCode)
			}
			c.conn.Close()
			waitFor(t, func() bool {
				for range s.Tunnels() {
					return false
				}
				return true
			})
			ask := func(id string) string {
				got := strings.ReplaceAll(s.raw("GET /"+id+"/x HTTP/1.1\r\nHost: h\r\nAccept: text/html\r\nConnection: close\r\n\r\n"), id, "ID")
				return requestName.ReplaceAllString(got, "REQUEST")
			}
			var wg sync.WaitGroup
			var gone, never string
			var goneTook, neverTook time.Duration
			wg.Go(func() { gone, goneTook = ask("gone"), time.Since(start) })
			wg.Go(func() { never, neverTook = ask("never"), time.Since(start) })
			wg.Wait()
			if gone != never || !strings.HasPrefix(gone, "HTTP/1.1 404 ") {
				t.Errorf("got\n%s\nand for one that never was\n%s", gone, never)
			}
			if goneTook < wait || neverTook < wait || (goneTook-neverTook).Abs() > time.Second {
				t.Errorf("they took %v and %v", goneTook, neverTook)
			}
		})
	}
}
