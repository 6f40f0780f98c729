package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

func (s *testService) addr() string { return strings.TrimPrefix(s.url, "http://") }

// open makes a connection and sends first.
func (s *testService) open(first string) net.Conn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, first)
	return c
}

// endsWithin reports whether the service ends c before limit has passed.
func endsWithin(c net.Conn, limit time.Duration) bool {
	c.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// TestSlowViewers: whoever sends a header slowly or not at all, or is idle, is
// cut, in every protocol and place; who uploads slowly is not. CVE-2026-56853
// was about the preface of HTTP/2 without TLS.
func TestSlowViewers(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	const preface, settings = http2.ClientPreface, "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	// HEADERS of stream 1 without END_HEADERS.
	const openHeaders = "\x00\x00\x01\x01\x01\x00\x00\x00\x01\x82"
	for name, tc := range map[string]struct {
		first string
		drip  bool // one byte each 50 ms
		tls   bool
	}{
		"nothing":                 {},
		"half a request line":     {first: "GET /a/"},
		"half a header":           {first: "GET /a/ HTTP/1.1\r\nHost: h\r\nX: "},
		"header byte by byte":     {first: "GET /a/ HTTP/1.1\r\nHost: h\r\nX: ", drip: true},
		"empty lines":             {first: "\r\n"},
		"half a preface":          {first: preface[:10]},
		"two thirds of it":        {first: preface[:20]},
		"preface":                 {first: preface},
		"HTTP/2 and no request":   {first: preface + settings},
		"half a header block":     {first: preface + settings + openHeaders},
		"half a frame":            {first: preface + settings + "\x00\x00"},
		"idle":                    {first: "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\n"},
		"idle, then half":         {first: "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\nGET"},
		"idle, then byte by byte": {first: "GET /a/ HTTP/1.1\r\nHost: h\r\n\r\nGET /a/ HTTP/1.1\r\nX:", drip: true},
		"no TLS handshake":        {tls: true},
		"half a TLS handshake":    {tls: true, first: "\x16\x03\x01\x01\x00\x01"},
		"body of a 404":           {first: "POST /nobody/ HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n", drip: true},
		"body of a registration":  {first: "GET / HTTP/1.1\r\nHost: h\r\nX-Websocktunnel-Id: a\r\nContent-Length: 900000\r\n\r\n", drip: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := Config{headerTimeout: limit, IdleTimeout: limit}
			if tc.tls {
				srv := httptest.NewUnstartedServer(nil)
				srv.StartTLS()
				t.Cleanup(srv.Close)
				cfg.TLSConfig = &tls.Config{Certificates: srv.TLS.Certificates}
			}
			s := newService(t, cfg)
			if !tc.tls {
				s.waitActive(s.connect("a", http.NotFoundHandler()))
			}
			c := s.open(tc.first)
			if tc.drip {
				go func() {
					for {
						<-time.After(50 * time.Millisecond)
						if _, err := c.Write([]byte("x")); err != nil {
							return
						}
					}
				}()
			}
			if !endsWithin(c, 15*time.Second) {
				t.Error("it was not cut")
			}
		})
	}
	t.Run("slow upload", func(t *testing.T) {
		t.Parallel()
		s := newService(t, Config{headerTimeout: limit, IdleTimeout: limit})
		s.waitActive(s.connect("a", echoHandler))
		c := s.open("POST /a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\n")
		for range 8 {
			<-time.After(limit / 3)
			io.WriteString(c, "x")
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "xxxxxxxx" {
			t.Errorf("got %d %q", resp.StatusCode, b)
		}
	})
}

// TestIdleTimeout: a load balancer that keeps idle connections for 600 s never
// finds one closed by default. It was 120 s, and could not be set.
func TestIdleTimeout(t *testing.T) {
	for set, want := range map[time.Duration]time.Duration{0: 620 * time.Second, time.Minute: time.Minute, -1: 0} {
		s, err := New(Config{PublicURL: "http://h", Secrets: [][]byte{testSecret}, IdleTimeout: set})
		if err != nil {
			t.Fatal(err)
		}
		hs, err := s.newHTTPServer()
		if err != nil {
			t.Fatal(err)
		}
		if hs.IdleTimeout != want {
			t.Errorf("%v became %v, want %v", set, hs.IdleTimeout, want)
		}
		s.Close()
	}

	s := newService(t, Config{IdleTimeout: -1, headerTimeout: 100 * time.Millisecond})
	c := s.open("GET /__version__ HTTP/1.1\r\nHost: h\r\n\r\n")
	r := bufio.NewReader(c)
	for range 2 {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal("without a limit: ", err)
		}
		io.Copy(io.Discard, resp.Body)
		<-time.After(300 * time.Millisecond) // longer than a header may take
		io.WriteString(c, "GET /__version__ HTTP/1.1\r\nHost: h\r\n\r\n")
	}
}

// TestHeaderLimit: a header is served or refused with 431, by the byte, and the
// tunnel goes on. net/http adds 4 KiB to MaxHeaderBytes.
func TestHeaderLimit(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", echoHandler))
	head := "GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: "
	status := func(size int) string {
		b := s.raw(head + strings.Repeat("x", size-len(head)-4) + "\r\n\r\n")
		return b[:min(len(b), 12)]
	}
	low, high := maxHeaderBytes, maxHeaderBytes+8192
	for high-low > 1 {
		switch mid := (low + high) / 2; status(mid) {
		case "HTTP/1.1 200":
			low = mid
		case "HTTP/1.1 431":
			high = mid
		default:
			t.Fatalf("%d bytes: %s", mid, status(mid))
		}
	}
	if low < maxHeaderBytes+4000 || high > maxHeaderBytes+4200 {
		t.Errorf("%d bytes are served, and %d are not", low, high)
	}
	// Small lines are many: 17,000 of them are half a megabyte as HTTP/2 counts.
	if got := s.raw(head + "x\r\n" + strings.Repeat("A:\r\n", 16<<10) + "\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") && !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("many small headers: %.60s", got)
	}
	if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

// TestTunnelHeaderLimit: a tunnel client that admits less than a viewer may
// send: 431 where the limit is passed, never 502, and the session stays.
func TestTunnelHeaderLimit(t *testing.T) {
	s := newService(t, Config{})
	c, _, err := s.dial("a", mint(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	served := make(chan error, 1)
	go func() {
		served <- h2conn.Serve(t.Context(), c.conn, echoHandler, h2conn.ServeConfig{Config: h2conn.Config{MaxHeaderBytes: 4096}})
	}()
	s.waitActive(c)
	get := func(size int) int {
		resp, _ := s.get("/a/", "X", strings.Repeat("x", size))
		return resp.StatusCode
	}
	low, high := 0, 8192
	for high-low > 1 {
		switch mid := (low + high) / 2; get(mid) {
		case 200:
			low = mid
		case 431:
			high = mid
		default:
			t.Fatalf("%d bytes: %d", mid, get(mid))
		}
	}
	if get(low) != 200 || get(high) != 431 || low < 3000 {
		t.Errorf("the limit is between %d and %d", low, high)
	}
	if _, text := s.get("/a/", "X", strings.Repeat("x", high)); !strings.Contains(text, string(codeHeaderTooLarge)) {
		t.Errorf("no code in %q", text)
	}
	if s.waitActive(c); get(0) != 200 {
		t.Error("the session has gone")
	}
}

// flood is a hostile HTTP/2 viewer.
type flood struct {
	c   net.Conn
	fr  *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
}

func (s *testService) flood() *flood {
	f := &flood{c: s.open(http2.ClientPreface)}
	f.fr = http2.NewFramer(f.c, nil)
	f.enc = hpack.NewEncoder(&f.buf)
	f.fr.WriteSettings()
	return f
}

// block is the header block of a GET.
func (f *flood) block(path string, more ...hpack.HeaderField) []byte {
	f.buf.Reset()
	for _, h := range append([]hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path}, {Name: ":authority", Value: "h"}}, more...) {
		f.enc.WriteField(h)
	}
	return f.buf.Bytes()
}

// TestHTTP2Floods: each viewer sends what costs the service more than itself.
// It is cut, or held back, and costs nobody else anything.
func TestHTTP2Floods(t *testing.T) {
	s := newService(t, Config{})
	var mu sync.Mutex
	busy, most := 0, 0
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			return
		}
		mu.Lock()
		busy++
		most = max(most, busy)
		mu.Unlock()
		<-r.Context().Done()
		mu.Lock()
		busy--
		mu.Unlock()
	}))
	s.waitActive(c)
	const (
		bound         = 5000
		clientStreams = 250 // the default of h2conn.ServeConfig.MaxConcurrentStreams
	)
	for name, tc := range map[string]struct {
		send func(f *flood, i int) error
		deaf bool // the viewer reads nothing
	}{
		"SETTINGS that nobody reads the acks of": {deaf: true, send: func(f *flood, _ int) error { return f.fr.WriteSettings() }},
		"PINGs that nobody reads the acks of":    {deaf: true, send: func(f *flood, _ int) error { return f.fr.WritePing(false, [8]byte{}) }},
		"rapid reset": {send: func(f *flood, i int) error {
			id := uint32(2*i + 1)
			f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block("/a/slow"), EndHeaders: true, EndStream: true})
			return f.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		"CONTINUATION without end": {send: func(f *flood, i int) error {
			if i == 0 {
				return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block("/a/")})
			}
			f.buf.Reset()
			f.enc.WriteField(hpack.HeaderField{Name: "x", Value: strings.Repeat("x", 4000), Sensitive: true})
			return f.fr.WriteContinuation(1, false, f.buf.Bytes())
		}},
		"empty CONTINUATION": {send: func(f *flood, i int) error {
			if i == 0 {
				return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block("/a/")})
			}
			if i > 5000 {
				return io.EOF
			}
			return f.fr.WriteContinuation(1, false, nil)
		}},
		"HPACK bomb": {send: func(f *flood, i int) error {
			f.buf.Reset()
			f.block("/a/", hpack.HeaderField{Name: "bomb", Value: strings.Repeat("x", 4000)})
			for range 2000 { // a byte each, out of the dynamic table
				f.enc.WriteField(hpack.HeaderField{Name: "bomb", Value: strings.Repeat("x", 4000)})
			}
			if i > 200 {
				return io.EOF
			}
			return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.buf.Bytes(), EndHeaders: true, EndStream: true})
		}},
		"more streams than admitted": {send: func(f *flood, i int) error {
			return f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: f.block("/a/slow"), EndHeaders: true, EndStream: true})
		}},
		"WINDOW_UPDATE and PRIORITY": {send: func(f *flood, i int) error {
			f.fr.WritePriority(uint32(2*i+1), http2.PriorityParam{Weight: 1})
			return f.fr.WriteWindowUpdate(0, 1)
		}},
		"frames of unknown types": {send: func(f *flood, i int) error {
			return f.fr.WriteRawFrame(0xbe, 0, 0, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := s.flood()
			f.c.SetDeadline(time.Now().Add(500 * time.Millisecond)) // who is held back that long does no harm
			if !tc.deaf {
				go io.Copy(io.Discard, f.c)
			}
			var err error
			n := 0
			for ; n < bound && err == nil; n++ {
				err = tc.send(f, n)
				if n%500 == 0 {
					if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
						t.Fatalf("another viewer got %d during the flood", resp.StatusCode)
					}
				}
			}
			f.c.Close()
			waitFor(t, func() bool { mu.Lock(); defer mu.Unlock(); return busy == 0 })
			if resp, _ := s.get("/a/"); resp.StatusCode != 200 {
				t.Errorf("another viewer got %d", resp.StatusCode)
			}
			t.Logf("%d steps, then %v", n, err)
		})
	}
	mu.Lock()
	defer mu.Unlock()
	// Those that have been reset end a little later at the tunnel client, and
	// its own limit bounds how many.
	if most > clientStreams {
		t.Errorf("%d requests of one connection were in flight", most)
	}
	if s.waitActive(c); len(c.served) > 0 {
		t.Error("the tunnel has not survived")
	}
}

// TestManySlowUploads: bodies that never come hold slots of their own tunnel
// only.
func TestManySlowUploads(t *testing.T) {
	s := newService(t, Config{MaxStreams: 20})
	s.waitActive(s.connect("a", echoHandler))
	s.waitActive(s.connect("b", echoHandler))
	for range 30 {
		s.open("POST /a/ HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nx")
	}
	sess, _ := s.registry.lookup(t.Context(), "a")
	waitFor(t, func() bool { return sess.slots.waits() == 10 })
	for i := range 20 {
		if resp, _ := s.get(fmt.Sprintf("/b/%d", i)); resp.StatusCode != 200 {
			t.Errorf("a neighbour's viewer got %d", resp.StatusCode)
		}
	}
}

// TestTLSFloor: a program that embeds the service cannot go below TLS 1.2, and
// its own configuration stays as it was.
func TestTLSFloor(t *testing.T) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	defer srv.Close()
	cfg := &tls.Config{Certificates: srv.TLS.Certificates, MinVersion: tls.VersionTLS10}
	s := newService(t, Config{TLSConfig: cfg})
	for version, want := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", s.addr(), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: version})
		if (err == nil) != want {
			t.Errorf("%s: %v, want a connection: %v", tls.VersionName(version), err, want)
		}
		if err == nil {
			c.Close()
		}
	}
	if cfg.MinVersion != tls.VersionTLS10 {
		t.Error("the caller's configuration was changed")
	}
}
