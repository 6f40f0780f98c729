package server

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/replay"
)

// TestBodyOfSecondTry: what is sent again counts once, and the time between two tries is
// not taken for a slow target's.
func TestBodyOfSecondTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 50_000
		body := io.NopCloser(strings.NewReader(strings.Repeat("x", size)))
		in, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", body)
		l := &live{}
		l.StallTimeout = time.Second
		x := &exchange{live: l}
		x.body.init(x, body, nil)
		total := traffic{}
		first, second := traffic{all: &total}, traffic{all: &total}
		attach := func(to *traffic) {
			x.body.attach(in, in.Clone(t.Context()), to, func(error) {})
		}
		attach(&first)
		if _, err := io.CopyN(io.Discard, &x.body, 20_000); err != nil {
			t.Fatal(err)
		}
		x.body.Close() // the try is over
		<-time.After(500 * time.Millisecond)
		attach(&second)
		if _, err := x.body.Read(make([]byte, 1)); err != nil || x.body.piece != bodyPiece {
			t.Errorf("pieces of %d bytes, %v", x.body.piece, err)
		}
		if n, err := io.Copy(io.Discard, &x.body); n != size-1 || err != nil {
			t.Errorf("read %d of the rest, %v", n, err)
		}
		x.body.stop()
		if n := total.received.Load(); n != size {
			t.Errorf("%d bytes were received, want %d", n, size)
		}
	})
}

// tries returns an exchange of a request with this body and these trailers, and what begins
// each try and returns the request of it.
func tries(t *testing.T, body io.ReadCloser, trailer http.Header) (x *exchange, attach func() *http.Request) {
	in, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", body)
	in.Trailer = trailer
	x = &exchange{live: &live{}}
	x.body.init(x, body, trailer)
	return x, func() *http.Request {
		out := in.WithContext(t.Context())
		x.body.attach(in, out, &traffic{all: &traffic{}}, func(error) {})
		return out
	}
}

// trailingBody ends when end is closed, and then has trailers, as net/http's bodies do.
type trailingBody struct {
	end     chan struct{}
	trailer http.Header
}

func (b trailingBody) Read([]byte) (int, error) {
	<-b.end
	b.trailer["X-End"] = []string{"end "}
	b.trailer["X-Not-Announced"] = []string{"x"}
	return 0, io.EOF
}

func (trailingBody) Close() error { return nil }

// TestTrailersOfSecondTry: the upload ends, and its trailers come, while the second try begins.
func TestTrailersOfSecondTry(t *testing.T) {
	for range 100 {
		body := trailingBody{make(chan struct{}), http.Header{"X-End": nil}}
		x, attach := tries(t, body, body.trailer)
		reading := make(chan error, 1)
		first := attach().Body
		go func() {
			_, err := first.Read(make([]byte, 1))
			reading <- err
		}()
		waitFor(t, func() bool {
			x.body.mu.Lock()
			defer x.body.mu.Unlock()
			return x.body.inRead
		})
		close(body.end)
		second := attach()
		<-reading
		if _, err := io.ReadAll(second.Body); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(second.Trailer); got != "map[X-End:[end]]" {
			t.Fatalf("the trailers of the second try are %v", got)
		}
	}
}

// TestTrailersOfEachTry: each try has values of its own, which the transport may read while the
// next one goes on, and those of the request stay as they came.
func TestTrailersOfEachTry(t *testing.T) {
	body := trailingBody{make(chan struct{}), http.Header{"X-End": nil}}
	close(body.end)
	_, attach := tries(t, body, body.trailer)
	read := func() *http.Request {
		out := attach()
		if _, err := io.ReadAll(out.Body); err != nil {
			t.Fatal(err)
		}
		return out
	}
	first := read()
	sent := make(chan string)
	go func() { sent <- first.Trailer.Get("X-End") }()
	second := read()
	if got := []string{<-sent, second.Trailer.Get("X-End"), body.trailer["X-End"][0]}; !slices.Equal(got, []string{"end", "end", "end "}) {
		t.Errorf("of the tries and of the request: %q", got)
	}
}

// TestLateCloseOfFirstTry: the transport closes the body of a try that is over at any time,
// which is nothing to the next one.
func TestLateCloseOfFirstTry(t *testing.T) {
	for range 20_000 {
		x, attach := tries(t, io.NopCloser(strings.NewReader("text")), nil)
		first := attach().Body
		var closing sync.WaitGroup
		closing.Go(func() { first.Close() })
		runtime.Gosched()
		second := attach().Body
		closing.Wait()
		if text, err := io.ReadAll(second); string(text) != "text" {
			t.Fatalf("the second try has read %q, %v", text, err)
		}
		x.body.stop()
	}
}

// TestUploadOfSilentViewer: when the tunnel ends, or its client resets the stream, an upload
// of which too much has been read to send it again is answered although its viewer sends
// nothing more.
func TestUploadOfSilentViewer(t *testing.T) {
	t.Parallel()
	for name, reset := range map[string]bool{"tunnel ends": false, "stream is reset": true} {
		for proto, major := range map[string]int{"HTTP/1.1": 1, "HTTP/2": 2} {
			t.Run(name+" "+proto, func(t *testing.T) {
				t.Parallel()
				s := newService(t, Config{})
				const sent = 2 * replay.Limit
				arrived, ends := make(chan struct{}), make(chan struct{})
				c := s.connect("a", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					io.CopyN(io.Discard, r.Body, sent)
					close(arrived)
					<-ends
					if reset {
						panic(http.ErrAbortHandler)
					}
					<-r.Context().Done()
				}))
				go func() {
					<-arrived
					close(ends)
					if !reset {
						c.conn.Close()
					}
				}()
				tr := &http.Transport{Protocols: new(http.Protocols)}
				tr.Protocols.SetHTTP1(major == 1)
				tr.Protocols.SetUnencryptedHTTP2(major == 2)
				defer tr.CloseIdleConnections()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				body, viewer := io.Pipe()
				defer viewer.Close()
				defer context.AfterFunc(ctx, func() { viewer.Close() })()
				go viewer.Write(make([]byte, sent))
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/a/", body)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusBadGateway || resp.ProtoMajor != major {
					t.Errorf("%s %s", resp.Proto, resp.Status)
				}
				if reason := resp.Header.Get("Proxy-Status"); !strings.Contains(reason, "BROKE") {
					t.Error(reason)
				}
			})
		}
	}
}

// TestBulkBodies: so many uploads at a time have a large buffer, whether they come or not, and
// none that is short.
func TestBulkBodies(t *testing.T) {
	t.Parallel()
	s := newService(t, Config{})
	arrived, ends := make(chan struct{}), make(chan struct{})
	s.connect("a", http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-ends
	}))
	tr := new(http.Transport)
	defer tr.CloseIdleConnections()
	var all sync.WaitGroup
	upload := func(length int64) {
		all.Go(func() {
			body, viewer := io.Pipe()
			defer viewer.Close()
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/a/", body)
			req.ContentLength = length
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
		<-arrived
	}
	upload(smallBody)
	if n := s.buffers.bodies.Load(); n != 0 {
		t.Errorf("a short one makes %d", n)
	}
	for i := range int64(maxLargeBuffers + 3) {
		upload([]int64{-1, smallBody + 1}[i%2])
	}
	if n := s.buffers.bodies.Load(); n != maxLargeBuffers {
		t.Errorf("there are %d, want %d", n, maxLargeBuffers)
	}
	close(ends)
	all.Wait()
	waitFor(t, func() bool { return s.buffers.bodies.Load() == 0 })
}
