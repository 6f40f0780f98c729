package server

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

// TestErrorsAreReadableAcrossOrigins: a page of another origin can read why a
// request failed, and a preflight allows it nothing.
func TestErrorsAreReadableAcrossOrigins(t *testing.T) {
	s := newService(t, Config{ViewerDomain: "t.example"})
	s.connect("broken", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/answer" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("X-Websocktunnel-Error", "connection_refused")
		w.WriteHeader(http.StatusBadGateway)
	}))
	for _, tc := range []struct {
		request string
		want    string // status
		open    bool
	}{
		{"GET /broken/x", "502", true},
		{"POST /broken/x", "502", true},
		{"GET /unknown/x", "404", true},
		{"HEAD /unknown/x", "404", true},
		{"GET /", "404", true},
		{"GET //x", "400", true},
		{"OPTIONS /broken/x", "502", true},
		{"OPTIONS /unknown/x", "404", true},
		{"OPTIONS /", "404", true},
		{"OPTIONS *", "400", true},
		{"GET /broken/answer", "500", false}, // the target's own business
		{"GET /__version__/x", "404", false},
		{"GET /__version__", "200", false},
		{"GET /__heartbeat__", "200", false},
		{"POST /__heartbeat__", "405", false},
		{"OPTIONS /__heartbeat__", "405", false},
	} {
		for _, host := range []string{"h", "unknown.t.example"} {
			if host != "h" && !strings.Contains(tc.request, "unknown") {
				continue
			}
			got := s.raw(tc.request + " HTTP/1.1\r\nHost: " + host + "\r\nOrigin: https://app.example\r\nAccess-Control-Request-Method: PUT\r\n" +
				"Access-Control-Request-Headers: x-a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			if !strings.HasPrefix(got, "HTTP/1.1 "+tc.want+" ") {
				t.Errorf("%s of %s: %q, want status %s", tc.request, host, got, tc.want)
			}
			for _, header := range []string{"\r\nAccess-Control-Allow-Origin: *\r\n", "\r\nAccess-Control-Expose-Headers: Proxy-Status, Retry-After\r\n"} {
				if strings.Contains(got, header) != tc.open {
					t.Errorf("%s of %s: %q, want %q: %v", tc.request, host, got, header, tc.open)
				}
			}
			if strings.Count(got, "Access-Control-") > 2 || strings.Contains(got, "Access-Control-Allow-Methods") || strings.Contains(got, "Access-Control-Allow-Headers") {
				t.Errorf("%s of %s: %q allows more", tc.request, host, got)
			}
		}
	}
	// The 429 for too many such requests says no more than the 404.
	for range missesBurst {
		s.misses.allow(netip.MustParseAddr("127.0.0.1"))
	}
	for path, open := range map[string]bool{"/__version__/x": false, "/__heartbeat__/": false, "/unknown/x": true, "/": true} {
		got := s.raw("GET " + path + " HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 429 ") || strings.Contains(got, "Access-Control") != open {
			t.Errorf("too many of %s: %q", path, got)
		}
	}
	// Nor does the 503 for a lack of memory.
	for path, open := range map[string]bool{"/__version__": false, "/__version__/x": false, "/unknown/x": true} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", path, nil)
		failMemory.answering(r, s.route(r)).write(w, r, "")
		if _, ok := w.Header()["Access-Control-Allow-Origin"]; ok != open || w.Code != 503 {
			t.Errorf("no memory for %s: %d, %q", path, w.Code, w.Header())
		}
	}
	for _, request := range []string{registration(t, "a", "Bearer ", "Token "), registration(t, "a", "id: a\r", "id: a/b\r")} {
		if got := s.raw(strings.Replace(request, "\r\nOrigin", "\r\nConnection: close\r\nOrigin", 1)); strings.Contains(got, "Access-Control") || !strings.HasPrefix(got, "HTTP/1.1 40") {
			t.Errorf("a refused registration: %q", got)
		}
	}
}
