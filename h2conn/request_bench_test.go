package h2conn_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// BenchmarkRequest is a request with a tiny answer, through a tunnel of this
// process, with others beside it.
func BenchmarkRequest(b *testing.B) {
	tr := tunnel(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://h/", nil)
			if err != nil {
				b.Error(err)
				return
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
