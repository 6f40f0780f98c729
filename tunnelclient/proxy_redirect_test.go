package tunnelclient_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func TestRewriteRedirects(t *testing.T) {
	var header, value string
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(header, value)
		w.WriteHeader(http.StatusFound)
	}))
	defer target.Close()
	host := strings.TrimPrefix(target.URL, "http://")
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
		{"Set-Cookie", "a=/; Path=/; HttpOnly", "a=/; Path=/base/id/; HttpOnly"},
		{"Set-Cookie", "a=b;path=/app", "a=b;path=/base/id/app"},
		{"Set-Cookie", "a=b; Path=/base/id/app", "a=b; Path=/base/id/app"},
		{"Set-Cookie", "a=b", "a=b"},
		{"X-Other", "/login", "/login"},
	} {
		header, value = tt.header, tt.sent
		for _, on := range []bool{true, false} {
			p, err := tunnelclient.ProxyTo(host, tunnelclient.ProxyOptions{RewriteRedirects: on})
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
			p.(interface{ CloseIdleConnections() }).CloseIdleConnections()
		}
	}
}

func TestKeepPrefix(t *testing.T) {
	got := make(chan string, 1)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got <- r.RequestURI }))
	defer target.Close()
	for _, tt := range []struct{ prefix, path, want string }{
		{"/id", "/", "/id/"},
		{"/base/a%2Fb", "/x%2Fy?q=%zz", "/base/a%2Fb/x%2Fy?q=%zz"},
		{"/id", "//x/..", "/id//x/.."},
		{"", "/x", "/x"},
		{"evil", "/x", "/x"},
		{"//evil", "/x", "/x"},
	} {
		p, err := tunnelclient.ProxyTo(strings.TrimPrefix(target.URL, "http://"), tunnelclient.ProxyOptions{KeepPrefix: true})
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
		p.ServeHTTP(httptest.NewRecorder(), r)
		if g := <-got; g != tt.want {
			t.Errorf("%q behind %q: the target saw %q, want %q", tt.path, tt.prefix, g, tt.want)
		}
		p.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	}
}
