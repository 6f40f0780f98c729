package target_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/target"
)

// TestProxyLogIsBounded: viewers cannot fill the log of a tunnel client whose
// target is down.
func TestProxyLogIsBounded(t *testing.T) {
	var log bytes.Buffer
	p, err := target.New("127.0.0.1:1", target.Options{Logger: zerolog.New(&log)})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 500 {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusBadGateway {
			t.Fatalf("%d", w.Code)
		}
	}
	seconds := 2 + int(time.Since(begun)/time.Second)
	if n := bytes.Count(log.Bytes(), []byte("\n")); n == 0 || n > 10*seconds {
		t.Errorf("%d lines in %d s", n, seconds)
	}
}

// TestProxyLogNamesRequests: the line has what the service calls the request.
func TestProxyLogNamesRequests(t *testing.T) {
	for name, want := range map[string]string{
		"":                         `{"level":"warn","error":`,
		"service-1":                `{"level":"warn","request_id":"service-1","error":`,
		strings.Repeat("x", 1_000): `{"level":"warn","request_id":"` + strings.Repeat("x", 128) + `","error":`,
	} {
		var log bytes.Buffer
		p, err := target.New("127.0.0.1:1", target.Options{Logger: zerolog.New(&log)})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if name != "" {
			r.Header.Set("X-Websocktunnel-Request-Id", name)
		}
		p.ServeHTTP(httptest.NewRecorder(), r)
		if !strings.HasPrefix(log.String(), want) {
			t.Errorf("%s, want %s", log.String(), want)
		}
	}
}
