package h2conn_test

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestEndedTransportIsForgotten: nothing, above all no timer, keeps a connection's memory
// after its end, whether or not there has been a request on it. A peer that connects and
// goes again and again would fill the memory.
func TestEndedTransportIsForgotten(t *testing.T) {
	t.Parallel()
	if !h2conn.FindsClientBuffers {
		t.Skip("net/http's own HTTP/2 keeps it for a while")
	}
	for _, requests := range []int{0, 1} {
		ended := endedTransport(t, requests)
		for end := time.Now().Add(4 * time.Second); ended.Value() != nil; <-time.After(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("a Transport that has ended after %d requests is still there", requests)
			}
			runtime.GC()
		}
	}
}

// endedTransport returns a Transport whose peer has gone.
func endedTransport(t *testing.T, requests int) weak.Pointer[h2conn.Transport] {
	t.Helper()
	var tr *h2conn.Transport
	t.Run("", func(t *testing.T) { // what the test's end closes refers to it
		dialled, accepted := conns(t)
		var serving sync.WaitGroup
		serving.Go(func() {
			h2conn.Serve(context.Background(), dialled, http.NotFoundHandler(), h2conn.ServeConfig{})
		})
		defer serving.Wait()
		defer dialled.Close()
		var err error
		if tr, err = h2conn.NewTransport(accepted, h2conn.TransportConfig{}); err != nil {
			t.Fatal(err)
		}
		if err := tr.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range requests {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/", nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
	})
	<-tr.Done()
	return weak.Make(tr)
}
