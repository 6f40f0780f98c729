package server

import (
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
		x.body.init(x, body)
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
