package server

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestNameUnder(t *testing.T) {
	for host, want := range map[string]string{
		// Names in the domain.
		"a.t.example": "a", "A.T.Example": "a", "a.t.example.": "a", "a.t.example:8443": "a", "a.t.example.:80": "a", "a.t.example:": "a",
		"b.a.t.example": "b.a", "-.t.example": "-", "a_b.t.example": "a_b", "\u212a.t.example": "\u212a", "xn--a.t.example": "xn--a", "u@a.t.example": "u@a",
		// The domain itself.
		"t.example": "", "T.EXAMPLE.": "", "t.example:80": "", ".t.example": "",
		// Others: the service's.
		"": "no", ".": "no", "example": "no", "at.example": "no", "a.t.example.com": "no", "a.t.example..": "no", "a.t.example.x": "no", "xt.example": "no",
		"127.0.0.1:80": "no", "[::1]:80": "no", "[::1]": "no", "a.t\x00example": "no", "a.t.ex\u00e4mple": "no", "a%2et.example": "no", "t.example:80:80": "no",
	} {
		name, ok := nameUnder(host, "t.example")
		if ok == (want == "no") || ok && name != want {
			t.Errorf("%q: %q, %t, want %q", host, name, ok, want)
		}
	}
}

// TestNameIn: X-Forwarded-Host counts where a trusted proxy sent it, and only
// if Host does not name a tunnel.
func TestNameIn(t *testing.T) {
	hosts := viewerHosts{domain: "t.example", public: "service.example", trusted: mustTrust(t, "10.0.0.0/8")}
	for _, c := range []struct {
		name, remote, host string
		said               []string
		want               string
	}{
		{"no proxy", "192.0.2.1:1", "a.t.example", nil, "a"},
		{"not trusted", "192.0.2.1:1", "service.example", []string{"a.t.example"}, "no"},
		{"not trusted, on another tunnel's host", "192.0.2.1:1", "b.t.example", []string{"a.t.example"}, "b"},
		{"no address", "@", "service.example", []string{"a.t.example"}, "no"},
		{"trusted", "10.0.0.1:1", "service.example", []string{"a.t.example"}, "a"},
		{"trusted, odd spelling", "10.0.0.1:1", "service.example", []string{" A.T.Example.:443 "}, "a"},
		{"trusted, the domain itself", "10.0.0.1:1", "service.example", []string{"t.example"}, ""},
		{"trusted, the service's name", "10.0.0.1:1", "10.0.0.2", []string{"service.example"}, "no"},
		{"trusted, nothing said", "10.0.0.1:1", "service.example", nil, "no"},
		{"trusted, empty", "10.0.0.1:1", "service.example", []string{""}, "no"},
		// A page could send it to its own host.
		{"trusted, Host is a tunnel's", "10.0.0.1:1", "a.t.example", []string{"b.t.example"}, "a"},
		{"trusted, Host is the domain", "10.0.0.1:1", "t.example", []string{"b.t.example"}, ""},
		{"two proxies", "10.0.0.1:1", "10.0.0.2:8080", []string{"a.t.example, 10.0.0.1"}, "a"},
		{"the nearest proxy's word", "10.0.0.1:1", "service.example", []string{"b.t.example", "c.t.example, a.t.example"}, "a"},
		{"a proxy that appends", "10.0.0.1:1", "10.0.0.2:8080", []string{"b.t.example, service.example"}, "no"},
		{"a proxy that appends a tunnel's", "10.0.0.1:1", "10.0.0.2:8080", []string{"b.t.example, service.example, a.t.example"}, "a"},
		{"HTTP/1.0", "10.0.0.1:1", "", []string{"a.t.example"}, "a"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Host: c.host, Header: http.Header{}}
		if c.said != nil {
			r.Header["X-Forwarded-Host"] = c.said
		}
		got, ok := hosts.nameIn(r)
		if ok == (c.want == "no") || ok && got != c.want {
			t.Errorf("%s: %q, %t, want %q", c.name, got, ok, c.want)
		}
		if _, ok := (viewerHosts{trusted: hosts.trusted}).nameIn(r); ok {
			t.Errorf("%s: without a domain it is in it", c.name)
		}
	}
}

// TestHostRoute: on a tunnel's own host the path is the tunnel's, byte for byte.
func TestHostRoute(t *testing.T) {
	s, err := New(Config{PublicURL: "https://service.example", Secrets: [][]byte{testSecret}, ViewerDomain: "t.example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ request, want string }{
		{"GET / HTTP/1.1\r\nHost: a.t.example", "a /"},
		{"GET /? HTTP/1.1\r\nHost: a.t.example", "a /?"},
		{"GET //x/%2F/../y?a=1;b=2&c=%zz HTTP/1.1\r\nHost: a.t.example", "a //x/%2F/../y?a=1;b=2&c=%zz"},
		{"GET //a HTTP/1.1\r\nHost: a.t.example", "a //a"},
		{"GET /. HTTP/1.1\r\nHost: a.t.example", "a /."},
		{"GET /\xc3\xa9|\"<>^`{}#f HTTP/1.1\r\nHost: a.t.example", "a /\xc3\xa9|\"<>^`{}#f"},
		{"GET /__heartbeat__ HTTP/1.1\r\nHost: a.t.example", "a /__heartbeat__"},
		{"GET /__version__/x HTTP/1.1\r\nHost: a.t.example", "a /__version__/x"},
		{"GET /not:an;id HTTP/1.1\r\nHost: a.t.example", "a /not:an;id"},
		{"GET / HTTP/1.0\r\nHost: a.t.example", "a /"},
		// RFC 9112, section 3.2.2: the authority of the absolute-form wins.
		{"GET http://a.t.example/b?c HTTP/1.1\r\nHost: service.example", "a /b?c"},
		{"GET http://a.t.example HTTP/1.1\r\nHost: b.t.example", "a "},
		{"GET http://a.t.example?q HTTP/1.1\r\nHost: b.t.example", "a ?q"},
		{"GET http://service.example/a/b HTTP/1.1\r\nHost: a.t.example", "path a /b"},
		{"OPTIONS * HTTP/1.1\r\nHost: a.t.example", "a *"},
		{"OPTIONS http://a.t.example HTTP/1.1\r\nHost: x", "a *"},
		{"OPTIONS http://a.t.example/ HTTP/1.1\r\nHost: x", "a /"},
		{"OPTIONS http://a.t.example? HTTP/1.1\r\nHost: x", "a ?"},
		{"OPTIONS / HTTP/1.1\r\nHost: a.t.example", "a /"},
		{"GET * HTTP/1.1\r\nHost: a.t.example", "bad"},
		{"GET foo:bar HTTP/1.1\r\nHost: a.t.example", "bad"},
		{"CONNECT a.t.example:443 HTTP/1.1\r\nHost: a.t.example:443", "bad"},
		{"CONNECT /x HTTP/1.1\r\nHost: a.t.example", "bad"},
		// Hosts that no tunnel has.
		{"GET / HTTP/1.1\r\nHost: t.example", "none"},
		{"GET /a/ HTTP/1.1\r\nHost: t.example", "none"},
		{"GET /__heartbeat__ HTTP/1.1\r\nHost: t.example", "none"},
		{"GET / HTTP/1.1\r\nHost: b.a.t.example", "none"},
		{"GET / HTTP/1.1\r\nHost: a..t.example", "none"},
		{"GET / HTTP/1.1\r\nHost: a_b.t.example", "none"},
		{"GET / HTTP/1.1\r\nHost: " + strings.Repeat("a", 64) + ".t.example", "none"},
		{"OPTIONS * HTTP/1.1\r\nHost: t.example", "none"},
		// The service's own.
		{"GET /a/b HTTP/1.1\r\nHost: service.example", "path a /b"},
		{"GET /a/b HTTP/1.1\r\nHost: 127.0.0.1:80", "path a /b"},
		{"GET /a/b HTTP/1.0", "path a /b"},
		{"OPTIONS * HTTP/1.1\r\nHost: service.example", "bad"},
	} {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(c.request + "\r\n\r\n")))
		if err != nil {
			t.Fatal(c.request, ": ", err)
		}
		rt := s.route(r)
		query := ""
		if rt.hasQuery {
			query = "?" + rt.query
		}
		got := ""
		switch {
		case rt.kind == routeBad:
			got = "bad"
		case rt.kind == routeNone:
			got = "none"
		case rt.ownHost:
			got = string(rt.tunnel()) + " " + rt.rest + query
			if rt.id != "" {
				t.Errorf("%q: id %q", c.request, rt.id)
			}
		default:
			got = "path " + string(rt.tunnel()) + " " + rt.rest + query
		}
		if got != c.want {
			t.Errorf("%q: %q, want %q", c.request, got, c.want)
		}
		if (rt.kind == routeBad) != (rt.err != nil) {
			t.Errorf("%q: kind %d, error %v", c.request, rt.kind, rt.err)
		}
		r.Header.Set(wire.HeaderID, "a")
		if isRegistration(r, rt) {
			t.Errorf("%q is a registration", c.request)
		}
	}
}

func TestViewerDomain(t *testing.T) {
	longest := strings.Repeat("a.", 94) + "a" // 189
	for _, c := range []struct{ domain, public, want string }{
		{"tunnels.example.com", "https://tunnel.example.com", "https://a.tunnels.example.com"},
		{"Tunnels.Example.COM", "https://tunnel.example.com:8443", "https://a.tunnels.example.com:8443"},
		{"tunnels.example.com", "http://[::1]:80/base/", "http://a.tunnels.example.com:80"},
		{"tunnels.example.com", "https://example.com/base", "https://a.tunnels.example.com"},
		{"localhost", "http://127.0.0.1:8080", "http://a.localhost:8080"},
		{"xn--bcher-kva.example", "http://h", "http://a.xn--bcher-kva.example"},
		{longest, "http://h", "http://a." + longest},
		{"", "http://h/b", "http://h/b/a"},
	} {
		s, err := New(Config{PublicURL: c.public, ViewerDomain: c.domain, Secrets: [][]byte{testSecret}})
		if err != nil {
			t.Error(err)
			continue
		}
		got := s.cfg.clientURL("a")
		if got != c.want {
			t.Errorf("%s: client URL %q, want %q", c.domain, got, c.want)
		}
		if u, err := url.Parse(s.cfg.clientURL("%zz")); c.domain != "" && (err != nil || u.Hostname() != string(labelOf("%zz"))+"."+s.cfg.ViewerDomain) {
			t.Errorf("%s: %v, %v", c.domain, u, err)
		}
	}
	for _, c := range []struct{ domain, public string }{
		{".tunnels.example.com", ""}, {"tunnels.example.com.", ""}, {"*.tunnels.example.com", ""}, {"https://tunnels.example.com", ""}, {"tunnels.example.com:443", ""},
		{"tunnels.example.com/x", ""}, {"tun_nels.example", ""}, {"-t.example", ""}, {"t-.example", ""}, {"t..example", ""}, {"b\u00fccher.example", ""}, {" t.example", ""},
		{"10.0.0.1", ""}, {"1", ""}, {"[::1]", ""}, {"::1", ""}, {longest + "a", ""}, {strings.Repeat("a", 64) + ".example", ""},
		{"tunnel.example.com", "https://tunnel.example.com"}, {"example.com", "https://Tunnel.example.com:8443"}, {"example.com", "https://a.b.example.com."},
	} {
		public := c.public
		if public == "" {
			public = "https://service.example"
		}
		_, err := New(Config{PublicURL: public, ViewerDomain: c.domain, Secrets: [][]byte{testSecret}})
		if err == nil || !strings.HasPrefix(err.Error(), "server: ViewerDomain ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q with %s: %v", c.domain, public, err)
		}
	}
	if _, err := New(Config{PublicURL: "http://h", DisablePathMode: true, Secrets: [][]byte{testSecret}}); err == nil || !strings.Contains(err.Error(), "DisablePathMode") {
		t.Errorf("neither paths nor hosts: %v", err)
	}
	if _, err := New(Config{PublicURL: "ftp://h", ViewerDomain: "x:1", Secrets: [][]byte{testSecret}}); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two faults: %v", err)
	}
}

// FuzzHostRoute: no request leads to another tunnel than the one whose host it
// names, or, on a host of the service, than its path does.
func FuzzHostRoute(f *testing.F) {
	for _, host := range []string{"a.t.example", "A.T.EXAMPLE.:80", "t.example", "b.a.t.example", "service.example", "", "a.t.example:x", ".t.example", "\xff.t.example", "xt.example"} {
		for _, target := range []string{"/", "/b/c?d", "*", "//x", "http://b.t.example/c", "http://b.t.example", "/__version__"} {
			f.Add("GET", target, host)
			f.Add("OPTIONS", target, host)
		}
	}
	s, err := New(Config{PublicURL: "https://service.example", Secrets: [][]byte{testSecret}, ViewerDomain: "t.example"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, target, host string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		if u.Host != "" {
			host = u.Host // as net/http has it
		}
		rt := s.route(&http.Request{Method: method, RequestURI: target, URL: u, Host: host, Header: http.Header{}})
		bare, _, _ := strings.Cut(host, ":")
		inDomain := strings.HasSuffix(strings.ToLower("."+strings.TrimSuffix(bare, ".")), ".t.example")
		if !strings.Contains(strings.TrimPrefix(host, bare+":"), ":") && rt.ownHost != inDomain {
			t.Errorf("host %q: own host %t", host, rt.ownHost)
		}
		if !rt.ownHost {
			if want := splitTarget(pathOf(target)); rt.kind != want.kind || rt.id != want.id || rt.rest != want.rest {
				t.Errorf("%q on %q: %+v, want %+v", target, host, rt, want)
			}
			return
		}
		switch rt.kind {
		case routeNone:
		case routeBad:
			if rt.err == nil || strings.HasPrefix(target, "/") {
				t.Errorf("%q on %q is bad: %v", target, host, rt.err)
			}
		case routeTunnel:
			first, _, _ := strings.Cut(host, ".")
			if rt.tunnel() != label(strings.ToLower(first)) {
				t.Errorf("%q leads to %q", host, rt.tunnel())
			}
			query := ""
			if rt.hasQuery {
				query = "?" + rt.query
			}
			if strings.HasPrefix(target, "/") && rt.rest+query != target {
				t.Errorf("%q on %q has become %q", target, host, rt.rest+query)
			}
		default:
			t.Errorf("%q on %q: kind %d", target, host, rt.kind)
		}
	})
}
