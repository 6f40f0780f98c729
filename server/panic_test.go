package server

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
)

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestPanicFailsItsRequestOnly: a fault of our own costs the viewer's request,
// leaves one stack in the log, and the tunnel goes on.
func TestPanicFailsItsRequestOnly(t *testing.T) {
	var log lockedBuffer
	s := newService(t, Config{Logger: zerolog.New(&log), answered: func(resp *http.Response) {
		if resp.Header.Get("X-Uri") == "/panic" {
			panic("on purpose")
		}
	}})
	s.waitActive(s.connect("a", echoHandler))
	h2 := s.http2Viewer()
	for name, get := range map[string]func(string) (*http.Response, error){
		"HTTP/1.1": func(path string) (*http.Response, error) { return s.http.Get(s.url + path) },
		"HTTP/2": func(path string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
			if err != nil {
				return nil, err
			}
			return h2.RoundTrip(req)
		},
	} {
		before := strings.Count(log.String(), "panic serving")
		if resp, err := get("/a/panic"); err == nil {
			resp.Body.Close()
			t.Errorf("%s: got %d, want a broken answer", name, resp.StatusCode)
		}
		waitFor(t, func() bool { return strings.Count(log.String(), "panic serving") > before })
		if n := strings.Count(log.String(), "panic serving") - before; n != 1 {
			t.Errorf("%s: the log has %d panics", name, n)
		}
		resp, err := get("/a/")
		if err != nil {
			t.Fatalf("%s: afterwards: %v", name, err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: afterwards: %d", name, resp.StatusCode)
		}
	}
	if strings.Contains(log.String(), "on purpose") {
		t.Errorf("the value of the panic is in the log: %s", log.String())
	}
	if !strings.Contains(log.String(), "goroutine ") {
		t.Errorf("there is no stack in the log: %s", log.String())
	}
	waitFor(t, func() bool {
		for info := range s.Tunnels() {
			return info.InFlight == 0
		}
		return false
	})
}
