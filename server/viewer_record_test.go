package server

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// TestRequestDone: each request is told of once, with what has become of it, and
// never with its query.
func TestRequestDone(t *testing.T) {
	done := make(chan *RequestInfo, 10)
	s := newService(t, Config{RequestDone: func(i *RequestInfo) { done <- i }, TrustedProxies: []string{"127.0.0.1"}})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/refused":
			w.Header().Set(wire.HeaderError, "connection_refused")
			w.WriteHeader(http.StatusBadGateway)
		case "/broken":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			n, _ := io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", fmt.Sprint(n+2))
			io.WriteString(w, strings.Repeat("x", int(n)+2))
		}
	})))
	h2 := s.http2Viewer()
	raw := func(lines ...string) func() {
		return func() { s.raw(strings.Join(lines, "\r\n") + "\r\nHost: h\r\nConnection: close\r\n\r\n") }
	}
	overHTTP2 := func(path string) func() {
		return func() {
			req, _ := http.NewRequest(http.MethodGet, s.url+path, nil)
			req.Header.Set("User-Agent", "ua")
			req.Header.Set("Referer", "http://r/")
			resp, err := h2.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	for name, tc := range map[string]struct {
		do   func()
		want RequestInfo // without times and ID, and Sent where it is -1
	}{
		"answer": {
			raw("GET /a/p%2Fq?secret=1 HTTP/1.1", "User-Agent: ua", "Referer: http://r/", "X-Forwarded-For: 192.0.2.9"),
			RequestInfo{Method: "GET", Host: "h", Proto: "HTTP/1.1", UserAgent: "ua", Referer: "http://r/", Tunnel: "a", Path: "/a/p%2Fq", Prefix: "/a", Status: 200, TunnelProto: "HTTP/2.0", Producer: "target", Sent: 2},
		},
		"upload": {
			func() {
				s.raw("POST /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
			},
			RequestInfo{Method: "POST", Host: "h", Proto: "HTTP/1.1", Tunnel: "a", Path: "/a", Prefix: "/a", Status: 200, TunnelProto: "HTTP/2.0", Producer: "target", Received: 5, Sent: 7},
		},
		"target down": {
			raw("GET /a/refused?secret HTTP/1.1"),
			RequestInfo{Method: "GET", Host: "h", Proto: "HTTP/1.1", Tunnel: "a", Path: "/a/refused", Prefix: "/a", Status: 502, TunnelProto: "HTTP/2.0", Producer: "client", FailedHop: "target", Error: "connection_refused", ErrorCode: "WT-TARGET-REFUSED", Sent: -1},
		},
		"broken off": {
			raw("GET /a/broken HTTP/1.1"),
			RequestInfo{Method: "GET", Host: "h", Proto: "HTTP/1.1", Tunnel: "a", Path: "/a/broken", Prefix: "/a", Status: 200, TunnelProto: "HTTP/2.0", Producer: "target", FailedHop: "target", Error: "http_response_incomplete", ErrorCode: "WT-TARGET-BROKE", Sent: 4, Broken: true},
		},
		"no tunnel, over HTTP/2": {
			overHTTP2("/nobody/x?secret"),
			RequestInfo{Method: "GET", Host: s.addr(), Proto: "HTTP/2.0", UserAgent: "ua", Referer: "http://r/", Tunnel: "nobody", Path: "/nobody/x", Prefix: "/nobody", Status: 404, Producer: "service", FailedHop: "service", Error: "destination_not_found", ErrorCode: "WT-NO-TUNNEL", Sent: -1},
		},
		"nothing there, over HTTP/2": {
			overHTTP2("/?secret"),
			RequestInfo{Method: "GET", Host: s.addr(), Proto: "HTTP/2.0", UserAgent: "ua", Referer: "http://r/", Path: "/", Status: 404, Producer: "service", FailedHop: "service", Error: "destination_not_found", ErrorCode: "WT-NOT-FOUND", Sent: -1},
		},
		"path of our own": {
			raw("GET /__heartbeat__?secret HTTP/1.1"),
			RequestInfo{Method: "GET", Host: "h", Proto: "HTTP/1.1", Path: "/__heartbeat__", Prefix: "/__heartbeat__", Status: 200, Producer: "service"},
		},
		"malformed": {
			raw("GET //secret?secret HTTP/1.1"),
			RequestInfo{Method: "GET", Host: "h", Proto: "HTTP/1.1", Status: 400, Producer: "service", FailedHop: "service", Error: "http_request_error", ErrorCode: "WT-MALFORMED-TARGET", Sent: -1},
		},
		"too many trailers": { // net/http of Go 1.27 has a limit of fields of its own
			func() {
				var names []string
				for i := range maxTrailers + 1 {
					names = append(names, fmt.Sprint("X-", i))
				}
				s.raw("POST /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: " + strings.Join(names, ",") + "\r\n\r\n0\r\n\r\n")
			},
			RequestInfo{Method: "POST", Host: "h", Proto: "HTTP/1.1", Tunnel: "a", Path: "/a/", Prefix: "/a", Status: 431, Producer: "service", FailedHop: "service", Error: "http_request_error", ErrorCode: "WT-TOO-MANY-FIELDS", Sent: -1},
		},
		"CONNECT": {
			raw("CONNECT /a/ HTTP/1.1"),
			RequestInfo{Method: "CONNECT", Host: "h", Proto: "HTTP/1.1", Status: 405, Producer: "service", FailedHop: "service", Error: "http_request_error", ErrorCode: "WT-CONNECT-METHOD", Sent: -1},
		},
		"Go code": {
			func() {
				req, _ := http.NewRequest(http.MethodGet, "http://g/p?secret", nil)
				resp, err := s.RoundTripper("a").RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			},
			RequestInfo{Method: "GET", Host: "g", Tunnel: "a", Status: 200, TunnelProto: "HTTP/2.0", Producer: "target", Sent: 2},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.do()
			got := <-done
			if text := fmt.Sprintf("%+v", got); strings.Contains(text, "secret") {
				t.Errorf("the query is in %s", text)
			}
			if !regexp.MustCompile("^[0-9a-f]{32}$").MatchString(got.ID) {
				t.Errorf("id %q", got.ID)
			}
			if got.Start.IsZero() || got.End.Before(got.Start) || got.Begun.Before(got.Start) || got.End.Before(got.Begun) {
				t.Errorf("times: %v %v %v", got.Start, got.Begun, got.End)
			}
			if viewer := got.Viewer.String(); name == "answer" && viewer != "192.0.2.9" || name == "upload" && viewer != "127.0.0.1" {
				t.Errorf("viewer %s", viewer)
			}
			tc.want.ID, tc.want.Start, tc.want.Begun, tc.want.End, tc.want.Viewer = got.ID, got.Start, got.Begun, got.End, got.Viewer
			if tc.want.Sent < 0 {
				if got.Sent <= 0 {
					t.Errorf("%d bytes were sent", got.Sent)
				}
				tc.want.Sent = got.Sent
			}
			if *got != tc.want {
				t.Errorf("told of\n%+v, want\n%+v", *got, tc.want)
			}
			select {
			case again := <-done:
				t.Errorf("told again: %+v", again)
			default:
			}
		})
	}
}

// TestRequestID: a target learns what its request is called in the log. A viewer's
// own name stays, and a trusted proxy's is taken over.
func TestRequestID(t *testing.T) {
	for name, tc := range map[string]struct {
		trusted, off bool
		sent         string
		same, taken  bool // X-Request-Id is the same as in the log; the log has what was sent
	}{
		"made":                     {same: true},
		"a viewer's own":           {sent: "mine"},
		"a trusted proxy's":        {trusted: true, sent: "proxy-1", same: true, taken: true},
		"a trusted proxy's, silly": {trusted: true, sent: "a\tb"},
		"one that would end text":  {trusted: true, sent: `a"b`},
		"one that is too long":     {trusted: true, sent: strings.Repeat("x", wire.MaxRequestID+1)},
		"a long one":               {trusted: true, sent: strings.Repeat("x", wire.MaxRequestID), same: true, taken: true},
		"nobody wants to know":     {off: true, same: true},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan *RequestInfo, 1)
			cfg := Config{RequestDone: func(i *RequestInfo) { done <- i }}
			if tc.trusted {
				cfg.TrustedProxies = []string{"127.0.0.1"}
			}
			if tc.off {
				cfg.RequestDone = nil
			}
			s := newService(t, cfg)
			s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s|%s|%s", r.Header.Get("X-Websocktunnel-Request-Id"), r.Header.Get("X-Request-Id"), r.Header.Get("Traceparent"))
			})))
			header := []string{"Traceparent", "00-1-2-01", "X-Websocktunnel-Request-Id", "forged"}
			if tc.sent != "" {
				header = append(header, "X-Request-Id", tc.sent)
			}
			_, body := s.get("/a/", header...)
			ours, _, _ := strings.Cut(body, "|")
			id := ours
			if !tc.off {
				id = (<-done).ID
			}
			theirs := tc.sent
			if tc.same {
				theirs = id
			}
			if want := id + "|" + theirs + "|00-1-2-01"; body != want || ours == "" {
				t.Errorf("the target got %q, want %q", body, want)
			}
			if tc.taken != (id == tc.sent) {
				t.Errorf("id %q, sent %q", id, tc.sent)
			}
		})
	}
}

// TestRequestIDOfCode: Go code's requests have a name too, which it may give itself,
// and its own request stays as it was.
func TestRequestIDOfCode(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s", r.Header.Get("X-Websocktunnel-Request-Id"), r.Header.Get("X-Request-Id"))
	})))
	for name, want := range map[string]string{"": "^([0-9a-f]{32})\\|([0-9a-f]{32})$", "mine": `^mine\|mine$`} {
		req, _ := http.NewRequest(http.MethodGet, "http://g/", nil)
		if name != "" {
			req.Header.Set("X-Request-Id", name)
		}
		resp, err := s.RoundTripper("a").RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !regexp.MustCompile(want).Match(body) {
			t.Errorf("the target got %q", body)
		}
		if ours, theirs, _ := strings.Cut(string(body), "|"); ours != theirs {
			t.Errorf("two names: %s", body)
		}
		if _, ok := req.Header["X-Websocktunnel-Request-Id"]; ok || resp.Request != req || len(req.Header["X-Request-Id"]) != len(name)/4 {
			t.Errorf("the request is another now: %v", req.Header)
		}
	}
}

// TestRequestIDOfFailures: an answer of the service's own has the name of the request
// in its body and in Proxy-Status, and so do the log and the record.
func TestRequestIDOfFailures(t *testing.T) {
	done := make(chan *RequestInfo, 1)
	var log lockedBuffer
	s := newService(t, Config{RequestDone: func(i *RequestInfo) { done <- i }, Logger: zerolog.New(&log)})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.Header().Set("Content-Length", "100000")
			w.Write(make([]byte, 50_000))
			panic(http.ErrAbortHandler)
		}
		w.Header().Set(wire.HeaderError, "connection_refused")
		w.WriteHeader(http.StatusBadGateway)
	})))
	for _, path := range []string{"/a/", "/", "/nobody/", "//"} {
		for _, accept := range []string{"text/html", "application/json", "*/*"} {
			resp, body := s.get(path, "Accept", accept)
			i := <-done
			if want := `; details="` + i.ErrorCode + `, request ` + i.ID + `"`; !strings.HasSuffix(resp.Header.Get("Proxy-Status"), want) || !strings.Contains(body, i.ID) {
				t.Errorf("%s as %s: %q and %q, want %s", path, accept, resp.Header.Get("Proxy-Status"), body, want)
			}
			if path == "/a/" && !strings.Contains(log.String(), `"request_id":"`+i.ID+`"`) {
				t.Errorf("%s is not in the log: %s", i.ID, log.String())
			}
		}
	}
	s.raw("GET /a/broken HTTP/1.1\r\nHost: h\r\n\r\n")
	if i := <-done; !strings.Contains(log.String(), `"request_id":"`+i.ID+`","message":"httputil: `) {
		t.Errorf("%s, whose answer broke off, is not in the log: %s", i.ID, log.String())
	}
}
