package h2conn_test

import (
	"io"
	"net/http"
	"reflect"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestTrailersOfAnswers: what is about one connection does not cross in trailers
// either, however the handler sets them, and values have no outer white space.
func TestTrailersOfAnswers(t *testing.T) {
	tr := tunnel(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Trailer", "X-Declared, Upgrade, X-Websocktunnel-Upgrade")
		io.WriteString(w, "body")
		for _, k := range []string{"X-Declared", "Upgrade", "X-Websocktunnel-Upgrade"} {
			h.Set(k, " a b\t")
		}
		for _, k := range []string{"X-Late", "Upgrade", "Http2-Settings", "Connection", "Keep-Alive", "Proxy-Connection"} {
			h.Set(http.TrailerPrefix+k, "\tc ")
		}
	}), h2conn.TransportConfig{}, h2conn.ServeConfig{})
	resp := get(t, tr, "/")
	body(t, resp)
	got := make(http.Header)
	for k, vv := range resp.Trailer {
		if len(vv) > 0 { // not only announced
			got[k] = vv
		}
	}
	if want := (http.Header{"X-Declared": {"a b"}, "X-Late": {"c"}}); !reflect.DeepEqual(got, want) {
		t.Errorf("the trailers are %q, want %q", got, want)
	}
}
