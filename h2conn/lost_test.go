package h2conn_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestLostConnectionIsNoEnd: the operating system closes the connection of a process
// that is killed, so that its end is io.EOF. For an answer and an upgrade it is none.
func TestLostConnectionIsNoEnd(t *testing.T) {
	forms(t, func(t *testing.T, cfg h2conn.TransportConfig) {
		for _, upgrade := range []string{"", "x"} {
			dialled, accepted := conns(t)
			served := make(chan struct{})
			go func() {
				defer close(served)
				h2conn.Serve(context.Background(), dialled, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if upgrade == "" {
						io.WriteString(w, "half")
						http.NewResponseController(w).Flush()
						<-r.Context().Done()
						return
					}
					c, _, err := w.(http.Hijacker).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					io.WriteString(c, switchedToX+"half")
					<-r.Context().Done()
				}), h2conn.ServeConfig{})
			}()
			tr, err := h2conn.NewTransport(accepted, cfg)
			if err != nil {
				t.Fatal(err)
			}
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/", nil)
			if upgrade != "" {
				req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {upgrade}}
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(resp.Body, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			dialled.Abort()
			if n, err := resp.Body.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) || tr.BrokenOff(err) {
				t.Errorf("upgrade %q: read %d, %v; broken off by the peer: %v", upgrade, n, err, tr.BrokenOff(err))
			}
			resp.Body.Close()
			tr.Close()
			<-served
		}
	})
}
