package h2conn_test

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// roomBody is a body that notes how large a buffer it is read into.
type roomBody struct {
	left int
	room *int
}

func (b *roomBody) Read(p []byte) (int, error) {
	*b.room = max(*b.room, cap(p))
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(b.left, len(p))
	b.left -= n
	return n, nil
}

// TestBodyBuffer: a body has a large buffer where the caller says so and the peer takes such
// frames, and the next one has not.
func TestBodyBuffer(t *testing.T) {
	t.Parallel()
	const large, plain = 256 << 10, 64 << 10
	for name, tt := range map[string]struct {
		takes uint32
		want  int
	}{
		"": {0, large}, "a peer with small frames": {20_000, 20_000}, "one with larger ones": {1 << 20, large},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var cfg h2conn.ServeConfig
			cfg.MaxFrameSize = tt.takes
			tr := tunnel(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }), h2conn.TransportConfig{}, cfg)
			for _, big := range []bool{false, true, false} {
				want := min(tt.want, plain)
				if big && h2conn.FindsClientBuffers {
					want = tt.want
				}
				var room int
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteHeaders: func() { tr.BodyBuffer(big) }})
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://h/", &roomBody{1 << 20, &room})
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if room != want {
					t.Errorf("%v: %d bytes, want %d", big, room, want)
				}
			}
		})
	}
}
