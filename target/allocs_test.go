//go:build !race

package target_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/websocktunnel/websocktunnel/target"
)

// TestExchangeAllocations is the budget of a GET request to a target, whose own
// net/http server in this process takes a share of it.
func TestExchangeAllocations(t *testing.T) {
	const budget = 105
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello")
	}))
	defer srv.Close()
	h, err := target.New(srv.URL, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.CloseIdleConnections()
	n := testing.AllocsPerRun(100, func() {
		r := httptest.NewRequest(http.MethodGet, "/a?b", nil)
		r.ProtoMajor = 2
		h.ServeHTTP(discard{http.Header{}}, r)
	})
	if n > budget {
		t.Errorf("%v allocations, want at most %d", n, budget)
	}
	t.Logf("%v allocations", n)
}
