package h2conn_test

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestClientBuffers: after a download and an upload, an idle connection has no
// buffer of the size of its frames.
func TestClientBuffers(t *testing.T) {
	t.Parallel()
	if h2conn.FindsClientBuffers != h2conn.ExtendedConnect { // where x/net is no wrapper
		t.Fatalf("x/net's buffers are found: %v; they are there: %v", h2conn.FindsClientBuffers, h2conn.ExtendedConnect)
	}
	if !h2conn.FindsClientBuffers {
		t.Skip("the buffers of this build are net/http's")
	}
	var (
		buffers  atomic.Pointer[h2conn.ClientBuffers]
		forReads atomic.Int64 // what the buffers had before the last Read between frames
	)
	var held atomic.Int64
	cfg := h2conn.TransportConfig{Memory: h2conn.Memory{Held: func(delta int64) { held.Add(delta) }, Room: func() {
		if b := buffers.Load(); b != nil {
			forReads.Store(b.Reading())
		}
	}}}
	cfg.PingInterval = 20 * time.Millisecond
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }), cfg, h2conn.ServeConfig{})
	buffers.Store(h2conn.BuffersOf(tr))

	body := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", bytes.NewReader(body))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("%d bytes came back, %v", len(got), err)
	}
	const (
		most   = 2 << 10
		unsent = 4 << 10 // x/net gives a window back when that much has been read
	)
	small := func() bool {
		return forReads.Load() <= most && buffers.Load().Writing() <= most && held.Load() < unsent
	}
	for end := time.Now().Add(10 * time.Second); !small(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the buffers have %d bytes for reading and %d for writing, want at most %d; %d bytes are held, want less than %d", forReads.Load(), buffers.Load().Writing(), most, held.Load(), unsent)
		}
	}
}

// TestHeadersAfterRest: a connection that rests forgets which headers it has sent, and so
// does its peer.
func TestHeadersAfterRest(t *testing.T) {
	t.Parallel()
	if !h2conn.FindsClientBuffers {
		t.Skip("the buffers of this build are net/http's")
	}
	var cfg h2conn.TransportConfig
	cfg.PingInterval = 20 * time.Millisecond
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Answer", r.Header.Get("X-First")+r.Header.Get("X-Second")+r.URL.Path)
	}), cfg, h2conn.ServeConfig{})
	buffers := h2conn.BuffersOf(tr)
	for range 3 {
		before := buffers.Encoder()
		for range 3 {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/path", http.NoBody)
			req.Header = http.Header{"X-First": {"one-"}, "X-Second": {"two-"}}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got, want := resp.Header.Get("X-Answer"), "one-two-/path"; got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		for end := time.Now().Add(10 * time.Second); buffers.Encoder() == before; <-time.After(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the encoder of headers is the same after 10 s")
			}
		}
	}
}
