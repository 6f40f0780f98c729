package target_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/target"
)

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
func (d discard) Flush()                      {}

func BenchmarkProxy(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "hello")
	}))
	defer srv.Close()
	h, err := target.New(srv.URL, target.Options{})
	if err != nil {
		b.Fatal(err)
	}
	for _, bb := range []struct {
		name, method, expect string
		major                int
	}{{"GET", "GET", "", 2}, {"POST over HTTP/2", "POST", "", 2}, {"POST over HTTP/1", "POST", "", 1}, {"POST expecting 100", "POST", "100-continue", 2}} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var body io.Reader
				if bb.method == "POST" {
					body = struct{ io.Reader }{strings.NewReader("body")}
				}
				r := httptest.NewRequest(bb.method, "/a?b", body)
				r.ProtoMajor = bb.major
				if bb.expect != "" {
					r.Header.Set("Expect", bb.expect)
				}
				h.ServeHTTP(discard{http.Header{}}, r)
			}
		})
	}
}
