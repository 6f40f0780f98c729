//go:build !race

package h2conn_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestRequestAllocations is the budget of a request with a tiny answer, at both
// ends of a tunnel together, x/net's share included, which is most of it.
func TestRequestAllocations(t *testing.T) {
	const budget = 72
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "ok")
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	n := testing.AllocsPerRun(100, func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://h/", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
	if n > budget {
		t.Errorf("%v allocations, want at most %d", n, budget)
	}
	t.Logf("%v allocations", n)
}

// TestMessageAllocations: bytes on an established connection cost next to none.
func TestMessageAllocations(t *testing.T) {
	dialled, accepted := conns(t)
	defer accepted.Close()
	defer dialled.Close()
	out, in := make([]byte, 1024), make([]byte, 1024)
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := accepted.Read(b)
			if err != nil {
				return
			}
			if _, err := accepted.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	n := testing.AllocsPerRun(200, func() {
		if _, err := dialled.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(dialled, in); err != nil {
			t.Fatal(err)
		}
	})
	if n > 4 { // the goroutines that write, new where there is a pause
		t.Errorf("%v allocations for a message each way", n)
	}
	t.Logf("%v allocations", n)
}
