package target_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/internal/wire"
	"github.com/websocktunnel/websocktunnel/target"
)

// TestInterimAnswers: however many interim answers a target sends, its final one
// arrives; only a target that sends them without a pause, and nothing else, fails.
func TestInterimAnswers(t *testing.T) {
	t.Parallel()
	const early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for _, tt := range []struct {
		name string
		n    int // without a pause; less than 0: for ever
		want int
		kind string
	}{
		{"none", 0, 200, ""},
		{"eleven", 11, 200, ""},
		{"hundreds", 500, 200, ""},
		{"a flood", -1, 502, "http_protocol_error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln := tunneltest.ServeConns(t, func(c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				for i := 0; i != tt.n; i++ {
					if _, err := io.WriteString(c, early); err != nil {
						return
					}
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			})
			fs := tunnelTo(t, proxyTo(t, ln.Addr().String(), target.Options{}))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://tunnel/", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := fs.asking.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want || resp.Header.Get(wire.HeaderError) != tt.kind {
				t.Errorf("%s, %v", resp.Status, resp.Header)
			}
		})
	}
}
