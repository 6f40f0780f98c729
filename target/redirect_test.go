package target_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/target"
)

func TestRewriteRedirects(t *testing.T) {
	var header, value string
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(header, value)
		w.WriteHeader(http.StatusFound)
	}))
	defer site.Close()
	host := strings.TrimPrefix(site.URL, "http://")
	for _, tt := range []struct{ header, sent, want string }{
		{"Location", "/login", "/base/id/login"},
		{"Location", "/", "/base/id/"},
		{"Location", "/?next=/x#f", "/base/id/?next=/x#f"},
		{"Location", "/%2F/..//a;b", "/base/id/%2F/..//a;b"},
		// Never twice.
		{"Location", "/base/id", "/base/id"},
		{"Location", "/base/id/login", "/base/id/login"},
		{"Location", "/base/id?x", "/base/id?x"},
		{"Location", "/base/idiot", "/base/id/base/idiot"},
		// The target itself, under each of its names.
		{"Location", "http://" + host + "/login?a=1", "/base/id/login?a=1"},
		{"Location", "http://viewer.example/login", "/base/id/login"},
		{"Location", "https://Tunnel.Example:443/x", "/base/id/x"},
		{"Location", "https://tunnel.example/base/id/x", "/base/id/x"},
		{"Location", "//tunnel.example/x", "/base/id/x"},
		{"Location", "http://" + host, "/base/id/"},
		{"Location", "http://" + host + "?q", "/base/id/?q"},
		// Elsewhere, or relative.
		{"Location", "https://elsewhere.example/login", "https://elsewhere.example/login"},
		{"Location", "//elsewhere.example/login", "//elsewhere.example/login"},
		{"Location", "http://u:p@viewer.example/", "http://u:p@viewer.example/"},
		{"Location", "login", "login"},
		{"Location", "../login", "../login"},
		{"Location", "?x", "?x"},
		{"Location", "mailto:a@b", "mailto:a@b"},
		{"Location", "%zz", "%zz"},
		{"Location", "", ""},
		{"Content-Location", "/a.en", "/base/id/a.en"},
		{"Refresh", "5", "5"},
		{"Refresh", "5; url=/next", "5; url=/base/id/next"},
		{"Refresh", "0;URL='/next'", "0;URL='/base/id/next'"},
		{"Refresh", "0, /next", "0, /base/id/next"},
		{"Refresh", "5; url=https://elsewhere.example/", "5; url=https://elsewhere.example/"},
		{"Refresh", "0;url=http://" + host + "/next", "0;url=/base/id/next"},
		{"Refresh", "5; url=next", "5; url=next"},
		{"Refresh", "5; url=", "5; url="},
		{"Refresh", "5;url = \"/next?a='b'\"", "5;url = \"/base/id/next?a='b'\""},
		{"Refresh", "5; url=/base/id/next", "5; url=/base/id/next"},
		{"Refresh", "5; url='/base/id'", "5; url='/base/id'"},
		{"Refresh", "5; url='/base/id'; more", "5; url='/base/id'; more"},
		{"Refresh", "5 url=/next", "5 url=/base/id/next"},
		{"Refresh", "5 /next", "5 /base/id/next"},
		{"Refresh", "1.5;/next", "1.5;/base/id/next"},
		// What net/url cannot parse stands behind the authority.
		{"Location", "http://" + host + "/100%?a b=%zz#%", "/base/id/100%?a b=%zz#%"},
		{"Location", "http://" + host + `\@elsewhere.example/`, "/base/id/@elsewhere.example/"}, // as browsers read it
		{"Location", "/\\elsewhere.example/", "/base/id/\\elsewhere.example/"},
		{"Location", "http://" + host + "//elsewhere.example/", "/base/id//elsewhere.example/"},
		{"Set-Cookie", "a=/; Path=/; HttpOnly", "a=/; Path=/base/id; HttpOnly"},
		{"Set-Cookie", "a=b;path=/app", "a=b;path=/base/id/app"},
		{"Set-Cookie", "a=b; path = / ;Secure", "a=b; path =/base/id;Secure"},
		{"Set-Cookie", "a=b; Path=/base/id/", "a=b; Path=/base/id/"},
		{"Set-Cookie", "a=b; Path=/base/id/app", "a=b; Path=/base/id/app"},
		{"Set-Cookie", "a=b", "a=b"},
		{"Set-Cookie", "a=b; Path=/base/idiot", "a=b; Path=/base/id/base/idiot"},
		{"Set-Cookie", "a=b; Path=app", "a=b; Path=app"},
		{"Set-Cookie", "a=b; Path", "a=b; Path"},
		// Browsers take these with Path=/ only.
		{"Set-Cookie", "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"},
		{"Set-Cookie", "__host-a=b; Path=/; Secure", "__host-a=b; Path=/; Secure"},
		{"Set-Cookie", "__Secure-a=b; Path=/; Secure", "__Secure-a=b; Path=/base/id; Secure"},
		{"X-Other", "/login", "/login"},
	} {
		header, value = tt.header, tt.sent
		for _, on := range []bool{true, false} {
			p, err := target.New(host, target.Options{RewriteRedirects: on})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest("GET", "/x", nil)
			r.Host = "viewer.example"
			r.Header.Set("X-Forwarded-Prefix", "/base/id")
			r.Header.Set("X-Forwarded-Host", "tunnel.example")
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			want := tt.sent
			if on {
				want = tt.want
			}
			if got := w.Header().Get(tt.header); got != want {
				t.Errorf("%s: %q became %q, want %q (rewriting %v)", tt.header, tt.sent, got, want, on)
			}
			p.CloseIdleConnections()
		}
	}
}

// TestRewriteRedirectsAuthority: which absolute URLs are the target's own.
func TestRewriteRedirectsAuthority(t *testing.T) {
	var location string
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", location)
		w.WriteHeader(http.StatusCreated)
	})
	plain, encrypted := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer encrypted.Close()
	port := strings.TrimPrefix(plain.URL, "http://127.0.0.1:")
	for _, tt := range []struct {
		name                        string
		target, hostHeader          string
		viewerHost, proto, noPrefix string
		location, want              string
	}{
		// Of a target that does not know its public name.
		{name: "as dialled", target: port, location: "http://localhost:" + port + "/x", want: "/id/x"},
		{name: "as bound", target: port, location: "http://127.0.0.1:" + port + "/x", want: "/id/x"},
		{name: "as bound, IPv6", target: port, location: "http://[::1]:" + port + "/x", want: "/id/x"},
		{name: "as bound to all", target: port, location: "http://0.0.0.0:" + port + "/x", want: "/id/x"},
		{name: "as bound to all, IPv6", target: port, location: "http://[::]:" + port + "/x", want: "/id/x"},
		{name: "of an address", target: "127.0.0.1:" + port, location: "http://localhost:" + port + "/x", want: "/id/x"},
		{name: "of a URL", target: plain.URL, location: "//localhost:" + port + "/x", want: "/id/x"},
		{name: "of an https target", target: encrypted.URL, location: encrypted.URL + "/x", want: "/id/x"},
		{name: "the Host that it was told", target: port, hostHeader: "app.internal", location: "http://app.internal/x", want: "/id/x"},
		{name: "another port of this machine", target: port, location: "http://localhost:1/x", want: "http://localhost:1/x"},
		{name: "this machine, without the port", target: port, location: "http://localhost/x", want: "http://localhost/x"},

		// Of a target that knows it.
		{name: "a port", target: port, viewerHost: "t.example:8443", proto: "https", location: "https://t.example:8443/x", want: "/id/x"},
		{name: "another port", target: port, viewerHost: "t.example:8443", proto: "https", location: "https://t.example/x", want: "https://t.example/x"},
		{name: "no port, another scheme", target: port, viewerHost: "t.example", proto: "https", location: "http://t.example/x", want: "/id/x"},
		{name: "default port", target: port, viewerHost: "t.example", proto: "https", location: "https://t.example:443/x", want: "/id/x"},
		{name: "default port of the viewer", target: port, viewerHost: "t.example:80", proto: "http", location: "http://t.example/x", want: "/id/x"},
		{name: "default port, no scheme", target: port, viewerHost: "t.example", proto: "https", location: "//t.example:443/x", want: "/id/x"},
		{name: "the other default port", target: port, viewerHost: "t.example", proto: "http", location: "http://t.example:443/x", want: "http://t.example:443/x"},
		{name: "two hosts in X-Forwarded-Host", target: port, hostHeader: "app", viewerHost: "t.example, front", location: "http://t.example/x", want: "/id/x"},

		// A step up to https is what the redirect is for: as a path it would
		// lead to itself.
		{name: "to https", target: port, viewerHost: "t.example", proto: "http", location: "https://t.example/id/x", want: "https://t.example/id/x"},
		{name: "to https, no prefix", target: port, viewerHost: "t.example", proto: "http", location: "https://t.example/x?y", want: "https://t.example/id/x?y"},
		{name: "to https, nothing else", target: port, viewerHost: "t.example", proto: "http", location: "https://t.example", want: "https://t.example/id/"},
		{name: "to https, on a host of its own", target: port, hostHeader: "app.internal", viewerHost: "t.example", proto: "http", location: "https://app.internal/x", want: "/id/x"},
		{name: "https because it speaks it", target: encrypted.URL, viewerHost: "t.example", proto: "http", location: "https://t.example/x", want: "/id/x"},

		// On a host of its own (VIEWER_DOMAIN) a tunnel has no prefix.
		{name: "own host", noPrefix: "yes", target: port, location: "http://localhost:" + port + "/x", want: "/x"},
		{name: "own host, path", noPrefix: "yes", target: port, location: "/x", want: "/x"},
		{name: "own host, two slashes", noPrefix: "yes", target: port, location: "http://localhost:" + port + "//evil.example/x", want: "/.//evil.example/x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := target.New(tt.target, target.Options{RewriteRedirects: true, HostHeader: tt.hostHeader, InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdleConnections()
			location = tt.location
			r := httptest.NewRequest("POST", "/new", nil)
			if tt.viewerHost != "" {
				r.Host, _, _ = strings.Cut(tt.viewerHost, ",")
				r.Header.Set("X-Forwarded-Host", tt.viewerHost)
			}
			if tt.proto != "" {
				r.Header.Set("X-Forwarded-Proto", tt.proto)
			}
			if tt.noPrefix == "" {
				r.Header.Set("X-Forwarded-Prefix", "/id")
			}
			w := httptest.NewRecorder()
			p.ServeHTTP(w, r)
			if got := w.Header().Get("Location"); w.Code != http.StatusCreated || got != tt.want {
				t.Errorf("%q became %q (status %d), want %q", tt.location, got, w.Code, tt.want)
			}
		})
	}
}

func TestKeepPrefix(t *testing.T) {
	got := make(chan string, 1)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// It used to be announced too, so that frameworks put it before links twice.
		if v, ok := r.Header["X-Forwarded-Prefix"]; ok {
			t.Errorf("%s: X-Forwarded-Prefix %q announces what was not stripped", r.RequestURI, v)
		}
		w.Header().Set("Location", "/login")
		got <- r.RequestURI
	}))
	defer site.Close()
	for _, tt := range []struct{ prefix, path, original, want string }{
		{"/id", "/", "/id/", "/id/"},
		{"/base/a%2Fb", "/x%2Fy?q=%zz", "/a%2Fb/x%2Fy", "/base/a%2Fb/x%2Fy?q=%zz"},
		{"/id", "//x/..", "/id//x/..", "/id//x/.."},
		// A viewer's path without the slash stays so.
		{"/id", "/", "/id", "/id"},
		{"/id", "/?x=/", "/id", "/id?x=/"},
		{"/id", "/?", "/id", "/id?"},
		{"/base/id", "/", "/id", "/base/id"},
		{"/base/id", "/", "/id/", "/base/id/"},
		{"/id", "/", "", "/id/"},
		// The handler was not called with what the viewer asked for.
		{"/id", "/x", "/id", "/id/x"},
		{"", "/", "/id", "/"},
		{"", "/x", "/x", "/x"},
		{"evil", "/x", "/x", "/x"},
		{"//evil", "/x", "/x", "/x"},
	} {
		p, err := target.New(strings.TrimPrefix(site.URL, "http://"), target.Options{KeepPrefix: true, RewriteRedirects: true})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "/", nil)
		u, err := url.ParseRequestURI(tt.path)
		if err != nil {
			t.Fatal(err)
		}
		r.URL, r.RequestURI = u, tt.path
		if tt.prefix != "" {
			r.Header.Set("X-Forwarded-Prefix", tt.prefix)
		}
		if tt.original != "" {
			r.Header.Set("X-Websocktunnel-Original-Path", tt.original)
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if g := <-got; g != tt.want {
			t.Errorf("%q behind %q, of %q: the target saw %q, want %q", tt.path, tt.prefix, tt.original, g, tt.want)
		}
		prefix := tt.prefix
		if !strings.HasPrefix(tt.want, prefix) {
			prefix = "" // it is none
		}
		if got := w.Header().Get("Location"); got != prefix+"/login" {
			t.Errorf("%q behind %q: redirected to %q", tt.path, tt.prefix, got)
		}
		p.CloseIdleConnections()
	}
}
