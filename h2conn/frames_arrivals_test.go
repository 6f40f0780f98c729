package h2conn_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestStreamMemory: both ends can tell what a single stream holds, whoever asks late, and
// whether it has come whole.
func TestStreamMemory(t *testing.T) {
	t.Parallel()
	const size = 40 << 10 // less than a window
	charge := func(n *atomic.Int64) h2conn.StreamMemory {
		return h2conn.StreamMemory{Held: func(delta int64) { n.Add(delta) }, Full: func() bool { return true }}
	}
	var all, upload, download atomic.Int64
	streams := h2conn.Memory{Streams: true, Held: func(delta int64) { all.Add(delta) }}
	come := make(chan struct{})
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-come
		h2conn.ChargeRequest(r, charge(&upload))
		eventually(t, func() bool { return upload.Load() == size })
		if _, err := io.CopyN(io.Discard, r.Body, size/2); err != nil {
			t.Error(err)
		}
		eventually(t, func() bool { return upload.Load() <= size/2 })
		if _, err := io.Copy(io.Discard, r.Body); err != nil || upload.Load() != 0 {
			t.Errorf("%d bytes are held, %v", upload.Load(), err)
		}
		w.Write(make([]byte, size))
	}), h2conn.TransportConfig{Memory: h2conn.Memory{Streams: true}}, h2conn.ServeConfig{Memory: streams})
	for _, whole := range []bool{true, false} {
		body := io.Reader(bytes.NewReader(make([]byte, size)))
		end := make(chan struct{})
		if !whole {
			body = io.MultiReader(body, waitingReader(end))
		}
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteHeaders: func() {
			tr.ChargeStream(tr.LastStream(), charge(&download))
		}}), http.MethodPost, "http://h/", body)
		answer := make(chan *http.Response, 1)
		go func() {
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Error(err)
			}
			answer <- resp
		}()
		eventually(t, func() bool { return all.Load() >= size })
		come <- struct{}{}
		eventually(t, func() bool { return whole || upload.Load() == 0 })
		close(end)
		resp := <-answer
		if resp == nil {
			return
		}
		eventually(t, func() bool { return download.Load() == size })
		resp.Body.Close()
		download.Store(0)
		eventually(t, func() bool { return all.Load() < 8<<10 }) // x/net gives small pieces back later
	}
}

// waitingReader is at its end when c is closed.
type waitingReader chan struct{}

func (c waitingReader) Read([]byte) (int, error) {
	<-c
	return 0, io.EOF
}

// TestStreamMemoryElsewhere: where no stream is charged for, and for other requests, it does
// nothing.
func TestStreamMemoryElsewhere(t *testing.T) {
	t.Parallel()
	never := h2conn.StreamMemory{Held: func(int64) { t.Error("called") }}
	tr := tunnel(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		h2conn.ChargeRequest(r, never)
		io.Copy(io.Discard, r.Body)
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	tr.ChargeStream(1, never)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://h/", bytes.NewReader(make([]byte, 1000)))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if id := h2conn.StreamOfBody(errorReader{}); id != 0 {
		t.Error(id)
	}
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errors.New("no body of x/net's") }

// eventually waits until cond is true.
func eventually(t *testing.T, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			t.Error("it has not come to be in 10 s")
			return
		}
	}
}
