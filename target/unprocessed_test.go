package target_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// framedTarget is an HTTP/2 target made of frames.
type framedTarget struct {
	url         string
	connections atomic.Int32
	requests    atomic.Int32
	pings       atomic.Int32
}

// framedConn is one of its connections. Its methods are called by the goroutine
// that reads.
type framedConn struct {
	*http2.Framer
	n      int // of the connection, from 1 on
	bodies map[uint32]*bytes.Buffer
}

// newFramedTarget runs a target. on is told of the HEADERS and DATA of requests,
// until it takes the request's body from bodies.
func newFramedTarget(t *testing.T, overTLS bool, on func(c *framedConn, f http2.Frame)) *framedTarget {
	t.Helper()
	ln := tunneltest.Listen(t)
	ft := &framedTarget{url: "h2c://" + ln.Addr().String()}
	if overTLS {
		ft.url = "https://" + ln.Addr().String()
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{tunneltest.Certificate()}, NextProtos: []string{"h2"}})
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			n := int(ft.connections.Add(1))
			wg.Go(func() {
				defer c.Close()
				ft.serve(c, n, on)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ft
}

func (ft *framedTarget) serve(conn net.Conn, n int, on func(*framedConn, http2.Frame)) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	c := &framedConn{http2.NewFramer(conn, conn), n, map[uint32]*bytes.Buffer{}}
	c.WriteSettings()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				c.WriteSettingsAck()
			}
			continue
		case *http2.PingFrame:
			if !f.IsAck() {
				ft.pings.Add(1)
				c.WritePing(true, f.Data)
			}
			continue
		case *http2.HeadersFrame:
			ft.requests.Add(1)
			c.bodies[f.StreamID] = &bytes.Buffer{}
		case *http2.DataFrame:
			if n := uint32(len(f.Data())); n > 0 {
				c.WriteWindowUpdate(0, n)
				c.WriteWindowUpdate(f.StreamID, n)
			}
			if b := c.bodies[f.StreamID]; b != nil {
				b.Write(f.Data())
			}
		default:
			continue
		}
		if c.bodies[f.Header().StreamID] != nil {
			on(c, f)
		}
	}
}

// answer sends an answer with this body.
func (c *framedConn) answer(stream uint32, body []byte) {
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	for ; len(body) > 16<<10; body = body[16<<10:] {
		c.WriteData(stream, false, body[:16<<10])
	}
	c.WriteData(stream, true, body)
}

// ended reports whether f is the last frame of its request.
func ended(f http2.Frame) bool {
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return f.StreamEnded()
	case *http2.DataFrame:
		return f.StreamEnded()
	}
	return false
}

// refusals are ways in which a target says that it has not processed a request.
var refusals = []struct {
	name   string
	refuse func(c *framedConn, stream uint32)
}{
	{"GOAWAY", func(c *framedConn, _ uint32) { c.WriteGoAway(0, http2.ErrCodeNo, nil) }},
	{"GOAWAY with an error", func(c *framedConn, _ uint32) { c.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil) }},
	{"REFUSED_STREAM", func(c *framedConn, stream uint32) { c.WriteRSTStream(stream, http2.ErrCodeRefusedStream) }},
}

// TestUnprocessedIsSentAgain: what an HTTP/2 target has not processed is sent
// again, whatever its method, with the body that it had.
func TestUnprocessedIsSentAgain(t *testing.T) {
	t.Parallel()
	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10/16)
	for _, tt := range []struct {
		name, method string
		body         []byte
		chunked      bool
	}{
		{"GET", "GET", nil, false},
		{"POST", "POST", nil, false},
		{"small body", "POST", body[:3], false},
		{"small body of unknown length", "PATCH", body[:3], true},
		{"64 KiB", "PUT", body, false},
		{"64 KiB of unknown length", "POST", body, true},
	} {
		for _, r := range refusals {
			for _, overTLS := range []bool{false, true} {
				for _, whole := range []bool{false, true} { // before it is refused
					t.Run(fmt.Sprint(tt.name, "/", r.name, "/TLS ", overTLS, "/whole ", whole), func(t *testing.T) {
						t.Parallel()
						var refused atomic.Bool
						ft := newFramedTarget(t, overTLS, func(c *framedConn, f http2.Frame) {
							stream := f.Header().StreamID
							_, begins := f.(*http2.HeadersFrame)
							if (ended(f) || begins && !whole) && refused.CompareAndSwap(false, true) {
								r.refuse(c, stream)
								delete(c.bodies, stream)
								return
							}
							if ended(f) {
								c.answer(stream, c.bodies[stream].Bytes())
							}
						})
						h := proxyTo(t, ft.url, target.Options{InsecureSkipVerify: true})
						srv := httptest.NewServer(h)
						defer srv.Close()
						var sent io.Reader = bytes.NewReader(tt.body)
						if tt.chunked {
							sent = io.MultiReader(sent)
						}
						req, err := http.NewRequestWithContext(t.Context(), tt.method, srv.URL, sent)
						if err != nil {
							t.Fatal(err)
						}
						resp, err := viewer(t).Do(req)
						if err != nil {
							t.Fatal(err)
						}
						defer resp.Body.Close()
						got, err := io.ReadAll(resp.Body)
						if resp.StatusCode != 200 || err != nil || !bytes.Equal(got, tt.body) {
							t.Errorf("%s with %d bytes of %d, or others, %v", resp.Status, len(got), len(tt.body), err)
						}
						if n := ft.requests.Load(); n != 2 {
							t.Errorf("the target saw %d requests", n)
						}
					})
				}
			}
		}
	}
}

// TestRefusedUploadGoesOn: the next try begins at once though the viewer sends
// nothing, and takes what the viewer sends later.
func TestRefusedUploadGoesOn(t *testing.T) {
	t.Parallel()
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			var refused atomic.Bool
			again := make(chan struct{}, 1)
			ft := newFramedTarget(t, false, func(c *framedConn, f http2.Frame) {
				stream := f.Header().StreamID
				d, ok := f.(*http2.DataFrame)
				switch {
				case !ok:
				case refused.CompareAndSwap(false, true):
					r.refuse(c, stream)
					delete(c.bodies, stream)
				case c.bodies[stream].String() == "abc":
					again <- struct{}{}
				case d.StreamEnded():
					c.answer(stream, c.bodies[stream].Bytes())
				}
			})
			fs := tunnelTo(t, proxyTo(t, ft.url, target.Options{}))
			body, rest := io.Pipe()
			go func() {
				io.WriteString(rest, "abc")
				<-again
				io.WriteString(rest, strings.Repeat("d", 200<<10))
				rest.Close()
			}()
			req, err := http.NewRequestWithContext(t.Context(), "POST", "http://tunnel/", body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := fs.asking.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if want := "abc" + strings.Repeat("d", 200<<10); resp.StatusCode != 200 || string(got) != want || err != nil {
				t.Errorf("%s with %d bytes of %d, or others, %v", resp.Status, len(got), len(want), err)
			}
		})
	}
}

// TestRefusedTooLate: a body of which more was sent than is kept is not sent again,
// and the log says so.
func TestRefusedTooLate(t *testing.T) {
	t.Parallel()
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			ft := newFramedTarget(t, false, func(c *framedConn, f http2.Frame) {
				if stream := f.Header().StreamID; c.bodies[stream].Len() > 80<<10 {
					r.refuse(c, stream)
					delete(c.bodies, stream)
				}
			})
			var logged bytes.Buffer
			rec := httptest.NewRecorder()
			req := httptest.NewRequest("POST", "/", strings.NewReader(strings.Repeat("x", 1<<20)))
			proxyTo(t, ft.url, target.Options{Logger: zerolog.New(&logged)}).ServeHTTP(rec, req)
			if n := ft.requests.Load(); rec.Code != 502 || n != 1 {
				t.Errorf("%d, and the target saw %d requests", rec.Code, n)
			}
			if !strings.Contains(logged.String(), "more of its body was sent than is kept") {
				t.Errorf("the log says %s", logged.String())
			}
		})
	}
}

// TestRefusedForEver: a target that refuses every request is not asked for ever. It
// was, with up to 2,800 new connections a second, for as long as the viewer waited.
func TestRefusedForEver(t *testing.T) {
	t.Parallel()
	for _, r := range refusals {
		for _, overTLS := range []bool{false, true} {
			for _, body := range []string{"", "body"} {
				t.Run(fmt.Sprint(r.name, "/TLS ", overTLS, "/", body), func(t *testing.T) {
					t.Parallel()
					ft := newFramedTarget(t, overTLS, func(c *framedConn, f http2.Frame) {
						if _, ok := f.(*http2.HeadersFrame); ok {
							r.refuse(c, f.Header().StreamID)
						}
					})
					var logged bytes.Buffer
					rec := httptest.NewRecorder()
					req := httptest.NewRequest("POST", "/", strings.NewReader(body))
					if body == "" {
						req = httptest.NewRequest("GET", "/", nil)
					}
					begun := time.Now()
					proxyTo(t, ft.url, target.Options{InsecureSkipVerify: true, Logger: zerolog.New(&logged)}).ServeHTTP(rec, req)
					if rec.Code != 502 || rec.Header().Get(wire.HeaderError) != "connection_terminated" ||
						!strings.Contains(rec.Body.String(), "the target did not process the request") {
						t.Errorf("%d, %v, %q", rec.Code, rec.Header(), rec.Body)
					}
					if !strings.Contains(logged.String(), "the target did not process the request, in ") {
						t.Errorf("the log says %s", logged.String())
					}
					n := ft.requests.Load()
					if c := ft.connections.Load(); n < 2 || n > 10 || c > 12 {
						t.Errorf("the target saw %d requests on %d connections", n, c)
					}
					if took := time.Since(begun); took < 100*time.Millisecond || took > 10*time.Second {
						t.Errorf("%d tries took %v", n, took)
					}
				})
			}
		}
	}
}

// TestResetIsNotSentAgain: other resets say nothing of whether the request was
// processed. net/http takes PROTOCOL_ERROR for a refusal, and grpc-go answers a
// plain GET with it: such a GET began an endless loop.
func TestResetIsNotSentAgain(t *testing.T) {
	t.Parallel()
	for code := http2.ErrCodeNo; code <= http2.ErrCodeHTTP11Required; code++ {
		if code == http2.ErrCodeRefusedStream {
			continue
		}
		for _, body := range []string{"", "body"} {
			t.Run(code.String()+"/"+body, func(t *testing.T) {
				t.Parallel()
				ft := newFramedTarget(t, false, func(c *framedConn, f http2.Frame) {
					if ended(f) {
						c.WriteRSTStream(f.Header().StreamID, code)
					}
				})
				rec := httptest.NewRecorder()
				req := httptest.NewRequest("POST", "/", strings.NewReader(body))
				if body == "" {
					req = httptest.NewRequest("GET", "/", nil)
				}
				var logged bytes.Buffer
				proxyTo(t, ft.url, target.Options{Logger: zerolog.New(&logged)}).ServeHTTP(rec, req)
				if n := ft.requests.Load(); rec.Code != 502 || n != 1 {
					t.Errorf("%d, and the target saw %d requests", rec.Code, n)
				}
				if got := rec.Body.String(); got != "the target reset the request\n" {
					t.Errorf("the viewer is told %q", got)
				}
				if !strings.Contains(logged.String(), code.String()) {
					t.Errorf("the log does not name the code: %s", logged.String())
				}
			})
		}
	}
}

// TestConnectionsThatEnd: of many requests at a time to a target that ends each
// connection after a number of them, as nginx does, none fails.
func TestConnectionsThatEnd(t *testing.T) {
	t.Parallel()
	const requests, each = 1000, 100
	ft := newFramedTarget(t, false, func(c *framedConn, f http2.Frame) {
		stream := f.Header().StreamID
		last := uint32(2*each - 1)
		if _, ok := f.(*http2.HeadersFrame); ok && stream == last {
			c.WriteGoAway(last, http2.ErrCodeNo, nil)
		}
		if stream <= last && ended(f) {
			c.answer(stream, c.bodies[stream].Bytes())
		}
	})
	h := proxyTo(t, ft.url, target.Options{})
	var wg sync.WaitGroup
	var failed atomic.Int32
	for range requests {
		wg.Go(func() {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, httptest.NewRequest("POST", "/", strings.NewReader("body")))
			if rec.Code != 200 || rec.Body.String() != "body" {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed", n, requests)
	}
	if n := ft.connections.Load(); n < requests/each || n > 10*requests/each {
		t.Errorf("%d connections", n)
	}
}
