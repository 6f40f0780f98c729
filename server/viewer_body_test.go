package server

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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
		if _, err := x.body.Read(make([]byte, 1)); err != nil || x.body.piece != maxBodyRead {
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

// trailingBody ends when end is closed, and then has trailers, as net/http's bodies do.
type trailingBody struct {
	end     chan struct{}
	trailer http.Header
}

func (b trailingBody) Read([]byte) (int, error) {
	<-b.end
	b.trailer["X-End"] = []string{"end"}
	b.trailer["X-Not-Announced"] = []string{"x"}
	return 0, io.EOF
}

func (trailingBody) Close() error { return nil }

// TestTrailersOfSecondTry: the upload ends, and its trailers come, while the second try begins.
func TestTrailersOfSecondTry(t *testing.T) {
	for range 100 {
		body := trailingBody{make(chan struct{}), http.Header{"X-End": nil}}
		in, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", body)
		in.Trailer = body.trailer
		x := &exchange{live: &live{}}
		x.body.init(x, body, in.Trailer)
		attach := func() *http.Request {
			out := in.WithContext(t.Context())
			x.body.attach(in, out, &traffic{all: &traffic{}}, func(error) {})
			return out
		}
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
