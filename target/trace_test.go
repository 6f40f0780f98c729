package target

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestTraceRequest: the hook sees each request once as the target gets it, sets a
// header of it, and is told what has become of it.
func TestTraceRequest(t *testing.T) {
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/breaks" {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Header.Get("Traceparent"))
	}))
	defer site.Close()
	site.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, tc := range []struct {
		name, target, method, path string
		want, body                 string
	}{
		{"answered", site.URL, "GET", "/", "theirs/header 418 ", "ours"},
		{"broken", site.URL, "GET", "/breaks", "theirs/header 200 http_response_incomplete", ""},
		{"down", Refusing(t), "GET", "/", "theirs/header 502 connection_refused", ""},
		{"no request for it", site.URL, "CONNECT", "/", "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ended := make(chan string, 2)
			p, err := New(tc.target, Options{
				RequestHeader: http.Header{"X-Set": {"header"}},
				TraceRequest: func(r *http.Request) func(int, string) {
					seen := r.Header.Get("Traceparent") + "/" + r.Header.Get("X-Set")
					r.Header.Set("Traceparent", "ours")
					return func(status int, failure string) { ended <- fmt.Sprintf("%s %d %s", seen, status, failure) }
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			r := httptest.NewRequest(tc.method, tc.path, nil)
			r.Header.Set("Traceparent", "theirs")
			w := httptest.NewRecorder()
			func() {
				defer func() { recover() }() // a broken answer
				p.ServeHTTP(w, r)
			}()
			close(ended)
			if got := <-ended; got != tc.want {
				t.Errorf("told %q, want %q", got, tc.want)
			}
			if again, ok := <-ended; ok {
				t.Errorf("told again: %q", again)
			}
			if tc.body != "" && w.Body.String() != tc.body {
				t.Errorf("the target got %q", w.Body)
			}
			if r.Header.Get("Traceparent") != "theirs" {
				t.Error("the caller's request has changed")
			}
		})
	}
}

// TestTraceRequestWithoutEnd: a hook need not want to know the end.
func TestTraceRequestWithoutEnd(t *testing.T) {
	p, err := New(Refusing(t), Options{TraceRequest: func(*http.Request) func(int, string) { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusBadGateway {
		t.Errorf("status %d", w.Code)
	}
}
