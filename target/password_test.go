package target_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/target"
)

// TestPasswordWarning: in path mode a browser sends the password for one tunnel to
// others. Who runs a target that asks for one learns of it, once.
func TestPasswordWarning(t *testing.T) {
	for name, c := range map[string]struct {
		prefix, challenge string
		warns             bool
	}{
		"Basic":            {"/a", `Basic realm="x"`, true},
		"Digest":           {"/p/a", `digest realm="x", nonce="y"`, true},
		"second in a list": {"/a", `Bearer realm="x", Basic realm="x"`, true},
		"Bearer":           {"/a", `Bearer realm="basic"`, false},
		"no challenge":     {"/a", "", false},
		"host mode":        {"", `Basic realm="x"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if c.challenge != "" {
					w.Header().Set("WWW-Authenticate", c.challenge)
				}
				w.WriteHeader(http.StatusUnauthorized)
			}))
			defer asks.Close()
			var log bytes.Buffer
			p, err := target.New(asks.URL, target.Options{Logger: zerolog.New(&log)})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			for range 2 {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				if c.prefix != "" {
					r.Header.Set("X-Forwarded-Prefix", c.prefix)
				}
				w := httptest.NewRecorder()
				p.ServeHTTP(w, r)
				if w.Code != http.StatusUnauthorized {
					t.Fatalf("status %d", w.Code)
				}
			}
			if got := strings.Count(log.String(), "password"); got > 1 || (got == 1) != c.warns {
				t.Errorf("the log says %q", log.String())
			}
		})
	}
}
