package server

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

func TestSplitTarget(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, c := range []struct {
		target   string
		kind     routeKind
		id, rest string
		query    string
		hasQuery bool
		upstream string
	}{
		// Tunnels.
		{"/id", routeTunnel, "id", "", "", false, "/"},
		{"/id/", routeTunnel, "id", "/", "", false, "/"},
		{"/id?x=1", routeTunnel, "id", "", "x=1", true, "/"},
		{"/id/?x=1", routeTunnel, "id", "/", "x=1", true, "/"},
		{"/id?", routeTunnel, "id", "", "", true, "/"},
		{"/id/a?", routeTunnel, "id", "/a", "", true, "/a"},
		{"/id??", routeTunnel, "id", "", "?", true, "/"},
		{"/id?a=1;b=2&c=%zz", routeTunnel, "id", "", "a=1;b=2&c=%zz", true, "/"},
		{"/id?/x/../y", routeTunnel, "id", "", "/x/../y", true, "/"},
		{"/id//x/%2F/../y", routeTunnel, "id", "//x/%2F/../y", "", false, "//x/%2F/../y"},
		{"/id/../other", routeTunnel, "id", "/../other", "", false, "/../other"},
		{"/id/http://evil.example/", routeTunnel, "id", "/http://evil.example/", "", false, "/http://evil.example/"},
		{"/id/a#b", routeTunnel, "id", "/a#b", "", false, "/a#b"},
		{"/id/\xc3\xa9 \"<|>", routeTunnel, "id", "/\xc3\xa9 \"<|>", "", false, "/\xc3\xa9 \"<|>"},
		{"/team%2Fbuild/x", routeTunnel, "team%2Fbuild", "/x", "", false, "/x"},
		{"/team%2fbuild/x", routeTunnel, "team%2fbuild", "/x", "", false, "/x"},
		{"/favicon.ico", routeTunnel, "favicon.ico", "", "", false, "/"},
		{"/...", routeTunnel, "...", "", "", false, "/"},
		{"/~a_b-c.d", routeTunnel, "~a_b-c.d", "", "", false, "/"},
		{"/__x__", routeTunnel, "__x__", "", "", false, "/"},
		{"/__HEARTBEAT__", routeTunnel, "__HEARTBEAT__", "", "", false, "/"},
		{"/%5f_heartbeat__", routeTunnel, "%5f_heartbeat__", "", "", false, "/"},
		{"/" + long + "/", routeTunnel, long, "/", "", false, "/"},

		// Reserved, exactly.
		{"/__heartbeat__", routeReserved, "__heartbeat__", "", "", false, "/"},
		{"/__lbheartbeat__?x", routeReserved, "__lbheartbeat__", "", "x", true, "/"},
		{"/__version__?", routeReserved, "__version__", "", "", true, "/"},

		// Well-formed, and nothing there.
		{"/", routeNone, "", "", "", false, "/"},
		{"/?", routeNone, "", "", "", true, "/"},
		{"/?x=/y", routeNone, "", "", "x=/y", true, "/"},
		{"/__heartbeat__/", routeNone, "__heartbeat__", "/", "", false, "/"},
		{"/__version__/x?y", routeNone, "__version__", "/x", "y", true, "/x"},

		// Malformed.
		{target: ""}, {target: "*"}, {target: "id"}, {target: "?x"}, {target: "//"}, {target: "//id"}, {target: "///id"}, {target: "//id/x?y"},
		{target: "/."}, {target: "/.."}, {target: "/./id"}, {target: "/../id"}, {target: "/%2e"}, {target: "/%2E%2e/id"}, {target: "/.%2e/id"},
		{target: "/%"}, {target: "/%2"}, {target: "/%zz"}, {target: "/id%/x"}, {target: "/%/2e"},
		{target: "/a b"}, {target: "/a+b"}, {target: "/a;b=c/x"}, {target: "/a:b"}, {target: "/a#b/c"}, {target: "/\xc3\xa9"}, {target: "/a\\b"}, {target: "/\x00"},
		{target: "/" + long + "x"}, {target: "example.com:443"}, {target: "http:/id"}, {target: "http:id"}, {target: "http"},
		{target: "http://"}, {target: "http:///id"}, {target: "http://?x"}, {target: "ftp://host/id"}, {target: "mailto:a@b"}, {target: "://host/id"},

		// Absolute-form: the authority says nothing.
		{"http://host/id/x?y", routeTunnel, "id", "/x", "y", true, "/x"},
		{"HTTPS://user@[::1]:443/id", routeTunnel, "id", "", "", false, "/"},
		{"http://host", routeNone, "", "", "", false, "/"},
		{"http://host?x=/y", routeNone, "", "", "x=/y", true, "/"},
		{"http://host/", routeNone, "", "", "", false, "/"},
		{target: "http://host//id"},
		{"http://host/__version__", routeReserved, "__version__", "", "", false, "/"},
	} {
		t.Run(c.target, func(t *testing.T) {
			got := splitTarget(pathOf(c.target))
			if (got.err != nil) != (got.kind == routeBad) {
				t.Errorf("kind %v with error %v", got.kind, got.err)
			}
			got.err = nil
			if want := (route{kind: c.kind, id: c.id, rest: c.rest, query: c.query, hasQuery: c.hasQuery}); got != want {
				t.Fatalf("got %+v, want %+v", got, want)
			}
			if got.kind == routeBad {
				return
			}
			if c.target[0] == '/' && got.join() != c.target {
				t.Errorf("join gives back %q", got.join())
			}
			if got.upstreamPath() != c.upstream {
				t.Errorf("upstreamPath is %q, want %q", got.upstreamPath(), c.upstream)
			}
		})
	}
}

// A request as net/http reads it from the wire keeps every byte.
func TestParseRouteFromWire(t *testing.T) {
	for _, c := range []struct {
		line string
		kind routeKind
		join string
	}{
		{"GET /id/a%2fb//../c?x;y&%zz HTTP/1.1", routeTunnel, "/id/a%2fb//../c?x;y&%zz"},
		{"GET /id? HTTP/1.1", routeTunnel, "/id?"},
		{"GET /id?? HTTP/1.1", routeTunnel, "/id??"},
		{"GET /id/\xc3\xa9|\"<>^`{} HTTP/1.1", routeTunnel, "/id/\xc3\xa9|\"<>^`{}"},
		{"GET /id/a#b HTTP/1.1", routeTunnel, "/id/a#b"},
		{"GET //id HTTP/1.1", routeBad, ""},
		{"GET http://other/id/%41? HTTP/1.1", routeTunnel, "/id/%41?"},
		{"GET http://other HTTP/1.1", routeNone, "/"},
		{"GET foo:bar HTTP/1.1", routeBad, ""},
		{"GET http:/id HTTP/1.1", routeBad, ""},
		{"OPTIONS * HTTP/1.1", routeBad, ""},
		{"OPTIONS /id/* HTTP/1.1", routeTunnel, "/id/*"},
		{"CONNECT example.com:443 HTTP/1.1", routeBad, ""},
		{"CONNECT /id/x HTTP/1.1", routeBad, ""},
		{"GET /__heartbeat__ HTTP/1.0", routeReserved, "/__heartbeat__"},
	} {
		t.Run(c.line, func(t *testing.T) {
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.line + "\r\nHost: example.com\r\n\r\n")))
			if err != nil {
				t.Fatal(err)
			}
			got := parseRoute(r)
			if got.kind != c.kind {
				t.Fatalf("kind %v, want %v (%v)", got.kind, c.kind, got.err)
			}
			if c.kind != routeBad && got.join() != c.join {
				t.Errorf("path and query are %q, want %q", got.join(), c.join)
			}
		})
	}
}

// Extended CONNECT, as x/net/http2's server delivers it, has a path; the plain
// one has an authority, which may look like anything.
func TestParseRouteConnectHTTP2(t *testing.T) {
	r := &http.Request{Method: "CONNECT", ProtoMajor: 2, RequestURI: "/id/ws?x", URL: &url.URL{Path: "/id/ws", RawQuery: "x"},
		Header: http.Header{":protocol": {"websocket"}}}
	if got := parseRoute(r); got.kind != routeTunnel || got.join() != "/id/ws?x" {
		t.Errorf("extended: %+v", got)
	}
	for _, authority := range []string{"example.com:443", "id", "http:80", ""} {
		r := &http.Request{Method: "CONNECT", ProtoMajor: 2, RequestURI: authority, URL: &url.URL{Host: authority}}
		if got := parseRoute(r); got.kind != routeBad {
			t.Errorf("plain, to %q: %+v", authority, got)
		}
	}
}

// Where a handler in front has changed the URL, the URL counts.
func TestParseRouteRewritten(t *testing.T) {
	strip := func(prefix string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler { return http.StripPrefix(prefix, h) }
	}
	edit := func(f func(*url.URL)) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(r.URL); h.ServeHTTP(w, r) })
		}
	}
	for _, c := range []struct {
		name, target string
		front        func(http.Handler) http.Handler
		kind         routeKind
		join         string
	}{
		{"untouched", "/id/%41?x", edit(func(*url.URL) {}), routeTunnel, "/id/%41?x"},
		{"stripped", "/t/id/x?y", strip("/t"), routeTunnel, "/id/x?y"},
		{"stripped, escapes", "/t/a%2Fb/x%2F..?", strip("/t"), routeTunnel, "/a%2Fb/x%2F..?"},
		{"stripped to nothing", "/t", strip("/t"), routeNone, "/"},
		{"stripped, empty segment", "/t//id", strip("/t"), routeBad, ""},
		{"slash stripped too", "/t/id", strip("/t/"), routeBad, ""},
		{"slash stripped too, a URL below", "/t/http://host/id", strip("/t/"), routeBad, ""},
		{"path set", "/x", edit(func(u *url.URL) { u.Path = "/id/a b" }), routeTunnel, "/id/a%20b"},
		{"query set", "/id/x?secret=1&y", edit(func(u *url.URL) { u.RawQuery = "y" }), routeTunnel, "/id/x?y"},
		{"query removed", "/id/x?secret=1", edit(func(u *url.URL) { u.RawQuery = "" }), routeTunnel, "/id/x"},
		{"empty query removed", "/id/x?", edit(func(u *url.URL) { u.ForceQuery = false }), routeTunnel, "/id/x"},
		{"only the encoding changed", "/id/a%2Fb", edit(func(u *url.URL) { u.RawPath = "" }), routeTunnel, "/id/a/b"},
		{"opaque", "/id", edit(func(u *url.URL) { *u = url.URL{Scheme: "foo", Opaque: "bar"} }), routeBad, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got route
			h := c.front(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = parseRoute(r) }))
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", c.target, nil))
			if got.kind != c.kind {
				t.Fatalf("kind %v, want %v (%v)", got.kind, c.kind, got.err)
			}
			if c.kind != routeBad && got.join() != c.join {
				t.Errorf("path and query are %q, want %q", got.join(), c.join)
			}
		})
	}
	// A request made by hand has no RequestURI.
	r := &http.Request{Method: "GET", URL: &url.URL{Path: "/id/x", ForceQuery: true}}
	if got := parseRoute(r); got.join() != "/id/x?" {
		t.Errorf("made by hand: %+v", got)
	}
}

// FuzzRoute: every request target routes to exactly one of 400, 404, a
// reserved id and a tunnel; what leads anywhere gives back its bytes; and what
// net/http can parse comes out the same by way of a request.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{
		"/", "//", "/id", "/id/", "/id?", "/id/?x=1", "/id/%2F/../y", "//id", "/../x", "/%2e%2E/x", "/%zz", "/%", "/a%2", "*", "",
		"/__heartbeat__", "/__heartbeat__/x", "/__lbheartbeat__?", "/__version__", "/__version___", "http://h/id", "https://h", "http:///id", "h:80",
		"/id#f", "/\xff", "/id/\xff", "/id/\x00", "/a b", "/id/a b", "/id?a?b", "/.id", "/id.", "/" + strings.Repeat("x", 256), "/" + strings.Repeat("x", 257),
	} {
		f.Add(s)
	}
	id := regexp.MustCompile(`^[a-zA-Z0-9_~.%-]{1,256}$`)
	f.Fuzz(func(t *testing.T, target string) {
		rt := splitTarget(pathOf(target))
		switch rt.kind {
		case routeBad:
			if rt.err == nil {
				t.Error("bad, and no reason")
			}
		case routeNone:
			if first, _, _ := strings.Cut(rt.id, "/"); first != "" && !strings.HasPrefix(first, "__") {
				t.Errorf("nowhere: %q", target)
			}
		case routeReserved:
			if rt.rest != "" {
				t.Errorf("reserved with rest %q", rt.rest)
			}
		case routeTunnel:
			if !id.MatchString(rt.id) || rt.id == "." || rt.id == ".." {
				t.Errorf("tunnel %q", rt.id)
			}
			if rt.rest != "" && rt.rest[0] != '/' {
				t.Errorf("rest %q", rt.rest)
			}
		default:
			t.Fatalf("kind %v", rt.kind)
		}
		if rt.kind != routeBad {
			if strings.HasPrefix(target, "/") && rt.join() != target {
				t.Errorf("%q gives back %q", target, rt.join())
			}
			if again := splitTarget(pathOf(rt.join())); again != rt {
				t.Errorf("%+v, joined and split again: %+v", rt, again)
			}
		}

		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		viaRequest := parseRoute(&http.Request{Method: "GET", RequestURI: target, URL: u})
		rt.err, viaRequest.err = nil, nil
		if viaRequest != rt {
			t.Errorf("%q: %+v, by way of a request: %+v", target, rt, viaRequest)
		}
	})
}

// join returns the raw path and query, byte for byte as they were split. For a
// routeBad it means nothing.
func (rt route) join() string {
	if !rt.hasQuery {
		return rt.rawPath()
	}
	return rt.rawPath() + "?" + rt.query
}
