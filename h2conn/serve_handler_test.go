package h2conn_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestHandlersIgnoringContext: handlers that go on after their requests have been aborted
// hold up neither other requests nor the tunnel, and what they do then fails
// without harm.
func TestHandlersIgnoringContext(t *testing.T) {
	const aborted = 1600 // x/net gives up after five times 250
	for _, tt := range []struct {
		name    string
		request func(ctx context.Context) *http.Request
		late    func(w http.ResponseWriter, r *http.Request)
	}{
		{"answer", func(ctx context.Context) *http.Request {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://target/ignoring", nil)
			return req
		}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "X-T")
			io.WriteString(w, "late")
			http.NewResponseController(w).Flush()
			w.Header().Set("X-T", "late")
		}},
		{"upload", func(ctx context.Context) *http.Request {
			req, _ := http.NewRequestWithContext(ctx, "POST", "http://target/ignoring", strings.NewReader(strings.Repeat("x", 1000)))
			return req
		}, func(w http.ResponseWriter, r *http.Request) {
			r.ParseMultipartForm(10)
			io.Copy(io.Discard, r.Body)
			http.NewResponseController(w).SetWriteDeadline(time.Now())
			panic(http.ErrAbortHandler)
		}},
		{"upgrade", func(ctx context.Context) *http.Request {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://target/ignoring", nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "test")
			return req
		}, func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\nlate")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			var ignoring sync.WaitGroup
			tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ignoring" {
					ignoring.Add(1)
					defer ignoring.Done()
					select {
					case arrived <- struct{}{}:
					case <-release:
					}
					<-release
					tt.late(w, r)
					return
				}
				io.WriteString(w, "ok")
			}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
			once := sync.OnceFunc(func() { close(release); ignoring.Wait() })
			defer once()
			var viewers sync.WaitGroup
			defer viewers.Wait()
			for i := range aborted {
				ctx, cancel := context.WithCancel(t.Context())
				viewers.Go(func() {
					if resp, err := tr.RoundTrip(tt.request(ctx)); err == nil {
						resp.Body.Close()
					}
				})
				select {
				case <-arrived:
				case <-time.After(10 * time.Second):
					cancel()
					t.Errorf("request %d did not reach the handler", i)
					return
				}
				cancel()
			}
			if got := body(t, get(t, tr, "/")); got != "ok" {
				t.Errorf("beside handlers that ignore their contexts: %q", got)
			}
			once()
			if got := body(t, get(t, tr, "/")); got != "ok" {
				t.Errorf("after handlers that ignore their contexts: %q", got)
			}
		})
	}
}
