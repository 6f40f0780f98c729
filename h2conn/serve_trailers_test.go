package h2conn_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// An answer that comes before its request is whole does not cost the connection when
// trailers follow.
func TestTrailersBehindEarlyAnswer(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	for range 300 {
		body, feed := io.Pipe()
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://h/", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X": {"y"}}
		go func() {
			io.WriteString(feed, "abc")
			feed.Close()
		}()
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "hello" || err != nil {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if !tr.Usable() {
		t.Error("the connection has ended")
	}
}
