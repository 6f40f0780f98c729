package server

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// Browsers, and a program of Java.
const (
	acceptPage = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
	acceptJava = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
)

// TestBarePath: relative links of a page at "/<id>" would lead out of the
// tunnel, so a navigation there is redirected, and nothing else is.
func TestBarePath(t *testing.T) {
	s := newService(t, Config{PublicURL: "https://tunnel.example/base"})
	s.connect("team%2Fbuild", echoHandler)
	const slash = "/base/team%2Fbuild/"
	for _, tc := range []struct {
		name, request, location string // no location: the target answers
	}{
		{"navigation", "GET /team%2Fbuild HTTP/1.1\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nAccept: " + acceptPage, slash},
		{"navigation with a query", "GET /team%2Fbuild?a=1;b=%zz&c=\"/x HTTP/1.1\r\nSec-Fetch-Mode: navigate", slash + "?a=1;b=%zz&c=\"/x"},
		{"navigation with an empty query", "GET /team%2Fbuild? HTTP/1.1\r\nSec-Fetch-Mode: navigate", slash + "?"},
		{"navigation with bytes beyond ASCII", "GET /team%2Fbuild?\xe4\xff HTTP/1.1\r\nSec-Fetch-Mode: navigate", slash + "?%E4%FF"},
		{"HEAD", "HEAD /team%2Fbuild HTTP/1.1\r\nSec-Fetch-Mode: navigate", slash},
		{"frame", "GET /team%2Fbuild HTTP/1.1\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe", slash},
		{"browser without Fetch Metadata", "GET /team%2Fbuild HTTP/1.1\r\nAccept: " + acceptPage, slash},
		{"Java", "GET /team%2Fbuild HTTP/1.1\r\nAccept: " + acceptJava, slash},
		{"HTML alone", "GET /team%2Fbuild HTTP/1.1\r\nAccept: text/html", slash},
		{"XHTML", "GET /team%2Fbuild HTTP/1.1\r\nAccept: application/xhtml+xml, text/html;q=0.9", slash},
		{"old version of HTTP", "GET /team%2Fbuild HTTP/1.0\r\nAccept: text/html", slash},
		{"absolute form", "GET http://h/team%2Fbuild?x HTTP/1.1\r\nSec-Fetch-Mode: navigate", slash + "?x"},
		{"curl --http2", "GET /team%2Fbuild HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nAccept: text/html", slash},

		{"with a slash", "GET /team%2Fbuild/ HTTP/1.1\r\nSec-Fetch-Mode: navigate", ""},
		{"below", "GET /team%2Fbuild/x HTTP/1.1\r\nSec-Fetch-Mode: navigate", ""},
		{"curl", "GET /team%2Fbuild HTTP/1.1\r\nAccept: */*", ""},
		{"no Accept", "GET /team%2Fbuild HTTP/1.1", ""},
		{"fetch", "GET /team%2Fbuild HTTP/1.1\r\nSec-Fetch-Mode: cors\r\nAccept: text/html", ""},
		{"image", "GET /team%2Fbuild HTTP/1.1\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\nAccept: " + acceptPage, ""},
		{"Fetch Metadata without the mode", "GET /team%2Fbuild HTTP/1.1\r\nSec-Fetch-Site: same-origin\r\nAccept: " + acceptPage, ""},
		{"JSON", "GET /team%2Fbuild HTTP/1.1\r\nAccept: application/json", ""},
		{"JSON before HTML", "GET /team%2Fbuild HTTP/1.1\r\nAccept: application/json, text/html;q=0.9", ""},
		{"an image before HTML", "GET /team%2Fbuild HTTP/1.1\r\nAccept: image/png, text/html;q=0.9", ""},
		{"anything before HTML", "GET /team%2Fbuild HTTP/1.1\r\nAccept: text/html;q=0.1, */*", ""},
		{"anything but HTML", "GET /team%2Fbuild HTTP/1.1\r\nAccept: text/html;q=0", ""},
		{"text", "GET /team%2Fbuild HTTP/1.1\r\nAccept: text/*", ""},
		{"form", "POST /team%2Fbuild HTTP/1.1\r\nContent-Length: 0\r\nSec-Fetch-Mode: navigate\r\nAccept: " + acceptPage, ""},
		{"OPTIONS", "OPTIONS /team%2Fbuild HTTP/1.1\r\nAccept: text/html", ""},
		{"websocket", "GET /team%2Fbuild HTTP/1.1\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\nAccept: text/html", ""},
	} {
		method, _, _ := strings.Cut(tc.request, " ")
		got := s.raw(tc.request + "\r\nHost: h\r\nConnection: close\r\n\r\n")
		head, body, _ := strings.Cut(got, "\r\n\r\n")
		if tc.location == "" {
			if !strings.HasPrefix(head, "HTTP/1.1 200") || !strings.Contains(head, "X-Method: "+method) {
				t.Errorf("%s: got %q", tc.name, got)
			}
			continue
		}
		want := []string{"Location: " + tc.location, "Vary: Sec-Fetch-Mode, Accept", "Content-Length: 0"}
		for _, line := range want {
			if !strings.Contains(head+"\r\n", "\r\n"+line+"\r\n") {
				t.Errorf("%s: no %q in %q", tc.name, line, head)
			}
		}
		if _, status, _ := strings.Cut(head, " "); !strings.HasPrefix(status, "307 ") || body != "" {
			t.Errorf("%s: got %q", tc.name, got)
		}
	}

	// HTTP/2, and a URL without a path in front of the service.
	s2 := newService(t, Config{})
	s2.connect("a", echoHandler)
	req, err := http.NewRequestWithContext(t.Context(), "GET", s2.url+"/a?x=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Mode", "navigate")
	resp, err := s2.http2Viewer().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("Location"); resp.StatusCode != 307 || got != "/a/?x=1" {
		t.Errorf("HTTP/2: %d, Location %q", resp.StatusCode, got)
	}

	// An id that nobody has, and a tunnel on a host of its own.
	resp, _ = s2.get("/b", "Sec-Fetch-Mode", "navigate")
	if resp.StatusCode != 404 {
		t.Errorf("an unknown id gets %d", resp.StatusCode)
	}
	s3 := newService(t, Config{ViewerDomain: "t.example", PublicURL: "https://tunnel.example"})
	s3.connect("a", echoHandler)
	if got := s3.raw("GET / HTTP/1.1\r\nHost: a.t.example\r\nSec-Fetch-Mode: navigate\r\nService-Worker: script\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("a host of its own: %q", got)
	}
}

// TestBarePathOfTarget: a target that keeps the prefix decides about its bare
// path itself: one that redirects "/<id>/" to "/<id>" would go round for ever.
func TestBarePathOfTarget(t *testing.T) {
	s := newService(t, Config{})
	header := http.Header{"Authorization": {"Bearer " + mint(t, "a")}, wire.HeaderID: {"a"}, wire.HeaderBarePath: {wire.BarePathPass}}
	c, _, err := s.dialWith(header)
	if err != nil {
		t.Fatal(err)
	}
	c.serve(echoHandler)
	defer c.conn.Close()
	if resp, _ := s.get("/a", "Sec-Fetch-Mode", "navigate"); resp.StatusCode != 200 || resp.Header.Get("X-Uri") != "/" {
		t.Errorf("the bare path that a target wants got %d", resp.StatusCode)
	}
	// Another session of the id may want the other.
	header[wire.HeaderBarePath] = []string{"unknown"}
	c2, _, err := s.dialWith(header)
	if err != nil {
		t.Fatal(err)
	}
	c2.serve(echoHandler)
	defer c2.conn.Close()
	s.waitActive(c2)
	if resp, _ := s.get("/a", "Sec-Fetch-Mode", "navigate"); resp.StatusCode != 307 {
		t.Errorf("after a session that does not pass it: %d", resp.StatusCode)
	}
}

// TestServiceWorkerOfBarePath: the scope of a script at "/<id>" would be "/",
// which is all tunnels.
func TestServiceWorkerOfBarePath(t *testing.T) {
	asked := false
	for _, cfg := range []Config{{}, {DisablePathIsolation: true}} {
		s := newService(t, cfg)
		c, _, err := s.dialWith(http.Header{"Authorization": {"Bearer " + mint(t, "a")}, wire.HeaderID: {"a"}, wire.HeaderBarePath: {wire.BarePathPass}})
		if err != nil {
			t.Fatal(err)
		}
		c.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" && r.URL.RawQuery != "slash" {
				asked = true
			}
			io.WriteString(w, "self.oninstall = null")
		}))
		defer c.conn.Close()
		for _, header := range []string{"Service-Worker: script", "service-worker: Script", "Sec-Fetch-Dest: serviceworker"} {
			for _, path := range []string{"/a", "/a?v=2"} {
				got := s.raw("GET " + path + " HTTP/1.1\r\nHost: h\r\n" + header + "\r\nConnection: close\r\n\r\n")
				if !strings.HasPrefix(got, "HTTP/1.1 403") || !strings.Contains(got, `Proxy-Status: websocktunnel; error=http_request_denied; details="WT-WORKER-SCOPE`) {
					t.Errorf("%s, %s: got %q", path, header, got)
				}
			}
			for _, path := range []string{"/a/?slash", "/a/sw.js"} {
				if got := s.raw("GET " + path + " HTTP/1.1\r\nHost: h\r\n" + header + "\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 200") {
					t.Errorf("%s, %s: got %q", path, header, got)
				}
			}
		}
	}
	if asked {
		t.Error("the target was asked for such a script")
	}
}
