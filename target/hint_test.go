package target_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/target"
)

// A target that speaks another protocol than its address says is hard to tell
// from one that is broken: the log says which scheme it is.
func TestSchemeHint(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, scheme, answer, hint string }{
		{"HTTP/2 instead of HTTP/1.1", "http", "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00", "h2c://"},
		{"TLS instead of HTTP/1.1", "http", "\x15\x03\x01\x00\x02\x02\x46", "https://"},
		{"HTTP/1.1 instead of TLS", "https", "HTTP/1.1 400 Bad Request\r\n\r\n", "http://"},
		{"HTTP/1.1 instead of HTTP/2", "h2c", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "http://"},
		{"nonsense", "http", "no HTTP at all\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ln := tunneltest.Listen(t)
			done := make(chan struct{})
			t.Cleanup(func() { ln.Close(); <-done })
			go func() {
				defer close(done)
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					_, _ = conn.Read(make([]byte, 4<<10))
					_, _ = io.WriteString(conn, tt.answer)
					conn.Close()
				}
			}()
			var log bytes.Buffer
			p, err := target.New(tt.scheme+"://"+ln.Addr().String(), target.Options{Logger: zerolog.New(&log)})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if w.Code != http.StatusBadGateway {
				t.Errorf("status %d, want 502", w.Code)
			}
			if hinted := strings.Contains(log.String(), `"hint"`); hinted != (tt.hint != "") || !strings.Contains(log.String(), ": use "+tt.hint+`"`) && hinted {
				t.Errorf("the log says %s; want the hint %q", log.String(), tt.hint)
			}
		})
	}
}

// Probe finds out whether something listens at the target.
func TestProbe(t *testing.T) {
	t.Parallel()
	ln := tunneltest.Listen(t)
	p, err := target.New(ln.Addr().String(), target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Probe(t.Context()); err != nil {
		t.Errorf("a target that listens: %v", err)
	}
	ln.Close()
	if err := p.Probe(t.Context()); err == nil {
		t.Error("a target that does not listen: no error")
	}
}
