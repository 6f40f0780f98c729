package server

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLinkForgetsCancelled: a request that its viewer cancels, at whatever moment, leaves
// nothing behind on the link.
func TestLinkForgetsCancelled(t *testing.T) {
	t.Parallel()
	a, b := hopMemoryNodes(t, Config{}, Config{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	rt := a.RoundTripper("good")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for k := range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i*50+k)*4*time.Microsecond)
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://h/", strings.NewReader("x"))
				if err != nil {
					t.Error(err)
				} else if resp, err := rt.RoundTrip(req); err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	for _, l := range a.links(b) {
		waitFor(t, func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.attempts) == 0
		})
	}
}
