package server

import (
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

func mustTrust(t testing.TB, list ...string) trustedProxies {
	t.Helper()
	faults := configerror.New("server")
	p, err := parseTrusted(list, faults), faults.Err()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseTrusted(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want string
	}{
		{nil, ""},
		{[]string{"", "  "}, ""},
		{[]string{"10.0.0.0/8", " fd00::/8 ", "192.0.2.7", "2001:db8::1"}, "10.0.0.0/8 fd00::/8 192.0.2.7/32 2001:db8::1/128"},
		{[]string{"10.1.2.3/8"}, "10.0.0.0/8"},
		{[]string{"::ffff:10.0.0.0/104", "::ffff:192.0.2.7"}, "10.0.0.0/8 192.0.2.7/32"},
		{[]string{"0.0.0.0/0", "::/0"}, "0.0.0.0/0 ::/0"},
	} {
		var got []string
		for _, p := range mustTrust(t, c.in...).prefixes {
			got = append(got, p.String())
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: got %s, want %s", c.in, s, c.want)
		}
	}
	if trusted := mustTrust(t, "10.0.0.0/8", " unix "); !trusted.unix || len(trusted.prefixes) != 1 || mustTrust(t, "10.0.0.0/8").unix {
		t.Errorf("the entry unix is not read: %v", trusted)
	}
	faults := configerror.New("server")
	parseTrusted([]string{"10.0.0.0/33", "ok.example", "10.0.0.1", "10.0.0.1:80", "fe80::1%eth0", "fe80::%eth0/10", "unix:/run/x.sock"}, faults)
	err := faults.Err()
	if err == nil {
		t.Fatal("no error")
	}
	if lines := strings.Split(err.Error(), "\n"); len(lines) != 6 || !strings.Contains(lines[1], `"ok.example"`) {
		t.Errorf("want one line for each of 6 faults, got:\n%v", err)
	}
}

func TestForwarding(t *testing.T) {
	// What a viewer would send that wants to pass for somebody else.
	spoofed := http.Header{
		"X-Forwarded-For": {"203.0.113.9", "203.0.113.10"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"},
		"X-Forwarded-Port": {"444"}, "X-Forwarded-Prefix": {"/evil"}, "Forwarded": {"for=203.0.113.9"}, "X-Real-Ip": {"203.0.113.9"},
		"True-Client-Ip": {"203.0.113.9"}, "X_forwarded_for": {"203.0.113.9"}, "X_Real-Ip": {"203.0.113.9"},
		"X-Websocktunnel-Id": {"x"}, "X-Websocktunnel-Original-Path": {"/evil"}, "X-Websocktunnel-Upgrade": {"x"}, "X_websocktunnel_Upgrade": {"x"},
		"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"},
	}
	ours := func(more http.Header) http.Header {
		h := http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"},
			"X-Forwarded-Prefix": {"/p/id"}, "X-Websocktunnel-Original-Path": {"/id/%41//"}}
		maps.Copy(h, more)
		return h
	}
	for _, c := range []struct {
		name    string
		trusted []string
		remote  string
		host    string
		tls     bool
		unix    bool   // the peer is on a Unix socket
		scheme  string // of the public URL
		in      http.Header
		want    http.Header
	}{
		{
			name: "nobody trusted", remote: "192.0.2.1:4711", host: "tunnel.example", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"tunnel.example"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {"for=192.0.2.1;host=tunnel.example;proto=http"}}),
		},
		{
			name: "another trusted, TLS, port", trusted: []string{"10.0.0.0/8"}, remote: "192.0.2.1:4711", host: "tunnel.example:8443", tls: true, in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"tunnel.example:8443"}, "X-Forwarded-Proto": {"https"},
				"Forwarded": {`for=192.0.2.1;host="tunnel.example:8443";proto=https`}}),
		},
		{
			name: "trusted", trusted: []string{"192.0.2.0/24"}, remote: "192.0.2.1:4711", host: "inner", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"203.0.113.9, 203.0.113.10, 192.0.2.1"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"},
				"Forwarded":        {"for=203.0.113.9, for=192.0.2.1;host=inner;proto=http"},
				"X-Forwarded-Port": {"444"}, "X-Real-Ip": {"203.0.113.9"}, "True-Client-Ip": {"203.0.113.9"}}),
		},
		{
			name: "trusted, says nothing", trusted: []string{"192.0.2.1"}, remote: "192.0.2.1:4711", host: "inner",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}},
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"inner"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {"for=192.0.2.1;host=inner;proto=http"}}),
		},
		{
			name: "trusted, knows no Forwarded", trusted: []string{"::1"}, remote: "[::1]:4711", host: "inner:80",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"},
				"X-Forwarded-For": {"203.0.113.9:1234, nonsense, 2001:db8::7"}, "X-Forwarded-Host": {"tunnel.example:8443"}, "X-Forwarded-Proto": {"https"}},
			want: ours(http.Header{"X-Forwarded-For": {"203.0.113.9:1234, nonsense, 2001:db8::7, ::1"}, "X-Forwarded-Host": {"tunnel.example:8443"}, "X-Forwarded-Proto": {"https"},
				"Forwarded": {`for=203.0.113.9;host="tunnel.example:8443";proto=https, for=unknown, for="[2001:db8::7]", for="[::1]";host="inner:80";proto=http`}}),
		},
		{
			name: "trusted, several Forwarded", trusted: []string{"::1"}, remote: "[::1]:4711", host: "inner",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "Forwarded": {`for="[2001:db8::7]:99"`, "for=_hidden;by=_x"}},
			want: ours(http.Header{"X-Forwarded-For": {"::1"}, "X-Forwarded-Host": {"inner"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {`for="[2001:db8::7]:99", for=_hidden;by=_x, for="[::1]";host=inner;proto=http`}}),
		},
		{
			name: "trusted, open quote", trusted: []string{"::1"}, remote: "[::1]:4711", host: "inner",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "Forwarded": {`for="\"`}},
			want: ours(http.Header{"X-Forwarded-For": {"::1"}, "X-Forwarded-Host": {"inner"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {`for="[::1]";host=inner;proto=http`}}),
		},
		{
			name: "IPv6", remote: "[2001:db8::1]:4711", host: "[2001:db8::2]:80", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"2001:db8::1"}, "X-Forwarded-Host": {"[2001:db8::2]:80"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {`for="[2001:db8::1]";host="[2001:db8::2]:80";proto=http`}}),
		},
		{
			name: "zone", remote: "[fe80::1%eth0]:4711", host: "h", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"fe80::1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {`for="[fe80::1]";host=h;proto=http`}}),
		},
		{
			name: "IPv4 in IPv6 is IPv4, trusted", trusted: []string{"192.0.2.0/24"}, remote: "[::ffff:192.0.2.1]:4711", host: "h",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "X-Forwarded-For": {"203.0.113.9"}},
			want: ours(http.Header{"X-Forwarded-For": {"203.0.113.9, 192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"},
				"Forwarded": {"for=203.0.113.9, for=192.0.2.1;host=h;proto=http"}}),
		},
		{
			name: "Unix socket", trusted: []string{"0.0.0.0/0", "::/0"}, remote: "@", host: "h", in: spoofed,
			want: ours(http.Header{"X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=unknown;host=h;proto=http"}}),
		},
		{
			name: "Unix socket, trusted", trusted: []string{"unix"}, remote: "@", unix: true, scheme: "https", host: "h",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "X-Forwarded-For": {"203.0.113.9"}, "X-Real-Ip": {"203.0.113.9"}},
			want: ours(http.Header{"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"}, "X-Real-Ip": {"203.0.113.9"},
				"Forwarded": {"for=203.0.113.9;proto=https, for=unknown;host=h;proto=https"}}),
		},
		{
			name: "no address, and no Unix socket", trusted: []string{"unix"}, remote: "@", host: "h", in: spoofed,
			want: ours(http.Header{"X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=unknown;host=h;proto=http"}}),
		},
		{
			name: "trusting Unix sockets trusts nobody else", trusted: []string{"unix"}, remote: "192.0.2.1:4711", host: "h", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=192.0.2.1;host=h;proto=http"}}),
		},
		// A proxy that ends TLS and passes bytes on says no scheme.
		{
			name: "trusted, says no scheme", trusted: []string{"192.0.2.1"}, remote: "192.0.2.1:4711", scheme: "https", host: "h",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "X-Forwarded-For": {"203.0.113.9"}},
			want: ours(http.Header{"X-Forwarded-For": {"203.0.113.9, 192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"},
				"Forwarded": {"for=203.0.113.9;proto=https, for=192.0.2.1;host=h;proto=https"}}),
		},
		{
			name: "trusted, says nothing, public URL https", trusted: []string{"192.0.2.1"}, remote: "192.0.2.1:4711", scheme: "https", host: "h",
			in:   http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}},
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"}, "Forwarded": {"for=192.0.2.1;host=h;proto=https"}}),
		},
		{
			name: "trusted, says http although the public URL is https", trusted: []string{"192.0.2.1"}, remote: "192.0.2.1:4711", scheme: "https", host: "h",
			in:   http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "X-Forwarded-Proto": {"http"}},
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=192.0.2.1;host=h;proto=http"}}),
		},
		{
			name: "trusted, says the scheme in Forwarded alone", trusted: []string{"192.0.2.1"}, remote: "192.0.2.1:4711", scheme: "https", host: "h",
			in: http.Header{"X-Custom": {"kept"}, "Accept": {"*/*"}, "Te": {"trailers"}, "Forwarded": {`for=6.6.6.6;proto=https, for="[2001:db8::1]";Proto=HTTP;host="a,b"`}},
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"https"},
				"Forwarded": {`for=6.6.6.6;proto=https, for="[2001:db8::1]";Proto=HTTP;host="a,b", for=192.0.2.1;host=h;proto=https`}}),
		},
		{
			name: "not trusted, public URL https", remote: "192.0.2.1:4711", scheme: "https", host: "h", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=192.0.2.1;host=h;proto=http"}}),
		},
		{
			name: "HTTP/1.0 without Host", remote: "192.0.2.1:4711", in: spoofed,
			want: ours(http.Header{"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Proto": {"http"}, "Forwarded": {"for=192.0.2.1;proto=http"}}),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := forwarding{trusted: mustTrust(t, c.trusted...), scheme: c.scheme, prefixPath: "/p"}
			in := httptest.NewRequest("GET", "/id/%41//", nil)
			if c.unix {
				in = in.WithContext(context.WithValue(in.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "/run/x.sock", Net: "unix"}))
			}
			in.RemoteAddr, in.Host, in.Header = c.remote, c.host, c.in.Clone()
			if c.tls {
				in.TLS = &tls.ConnectionState{}
			}
			check := func(how string, got http.Header) {
				t.Helper()
				for name := range maps.Keys(got) {
					if !slices.Equal(got[name], c.want[name]) {
						t.Errorf("%s: %s is %q, want %q", how, name, got[name], c.want[name])
					}
				}
				for name := range maps.Keys(c.want) {
					if _, ok := got[name]; !ok {
						t.Errorf("%s: %s is missing, want %q", how, name, c.want[name])
					}
				}
			}
			out := in.Header.Clone()
			f.apply(out, in, "id", "/id/%41//")
			check("alone", out)
			if !maps.EqualFunc(in.Header, c.in, slices.Equal) {
				t.Errorf("the viewer's request was changed: %v", in.Header)
			}

			// ReverseProxy has removed some headers before Rewrite runs.
			var sent http.Header
			proxy := httputil.ReverseProxy{
				Rewrite: func(pr *httputil.ProxyRequest) {
					f.apply(pr.Out.Header, pr.In, "id", "/id/%41//")
				},
				Transport: targetFunc(func(r *http.Request) (*http.Response, error) {
					sent = r.Header
					return &http.Response{StatusCode: 204, Body: http.NoBody, Request: r}, nil
				}),
			}
			proxy.ServeHTTP(httptest.NewRecorder(), in)
			delete(sent, "User-Agent") // ReverseProxy's way of sending none
			check("in ReverseProxy", sent)
		})
	}
}

type targetFunc func(*http.Request) (*http.Response, error)

func (f targetFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestClientAddr(t *testing.T) {
	for _, c := range []struct {
		name, remote string
		chain        []string
		want         string
	}{
		{"direct", "192.0.2.1:80", nil, "192.0.2.1"},
		{"direct, spoofing", "192.0.2.1:80", []string{"203.0.113.9"}, "192.0.2.1"},
		{"direct, no port", "192.0.2.1", nil, "192.0.2.1"},
		{"direct, mapped", "[::ffff:192.0.2.1]:80", nil, "192.0.2.1"},
		{"direct, zone", "[fe80::1%eth0]:80", nil, "fe80::1"},
		{"Unix socket", "@", []string{"203.0.113.9"}, "invalid IP"},
		{"empty", "", nil, "invalid IP"},
		{"proxied", "10.0.0.1:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"proxied, nothing said", "10.0.0.1:80", nil, "10.0.0.1"},
		{"proxied, spoofing to the left", "10.0.0.1:80", []string{"1.1.1.1, 203.0.113.9"}, "203.0.113.9"},
		{"proxied, spoofing in a line of its own", "10.0.0.1:80", []string{"1.1.1.1", "203.0.113.9"}, "203.0.113.9"},
		{"proxied twice", "10.0.0.1:80", []string{"203.0.113.9 ,10.0.0.2"}, "203.0.113.9"},
		{"proxied, zone", "[fd00::1%eth0]:80", []string{"203.0.113.9"}, "203.0.113.9"},
		{"proxied, ports and brackets", "10.0.0.1:80", []string{"[2001:db8::1]:99, [fd00::7]"}, "2001:db8::1"},
		{"proxied, all trusted", "10.0.0.1:80", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		{"proxied, garbage", "10.0.0.1:80", []string{"203.0.113.9, unknown"}, "10.0.0.1"},
		{"proxied, empty entry", "10.0.0.1:80", []string{"203.0.113.9,"}, "10.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := forwarding{trusted: mustTrust(t, "10.0.0.0/8", "fd00::/8")}
			got := f.clientAddr(&http.Request{RemoteAddr: c.remote, Header: http.Header{"X-Forwarded-For": c.chain}})
			if got.String() != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// FuzzForwardedElement reads back what forwardedElement wrote, by the grammar
// of RFC 7239, section 4, and RFC 9110, section 5.6.4.
func FuzzForwardedElement(f *testing.F) {
	for _, host := range []string{"", "example.com", "example.com:80", "[::1]:80", `a"b`, `\`, `x";for=evil;y="`, "a, for=evil", "\x00", "\xff", " "} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		element := forwardedElement(netip.MustParseAddr("::1"), host, "https")
		rest, ok := strings.CutPrefix(element, `for="[::1]"`)
		if !ok {
			t.Fatalf("%q has no for", element)
		}
		if rest, ok = strings.CutSuffix(rest, ";proto=https"); !ok {
			t.Fatalf("%q has no proto", element)
		}
		if !quotesClosed(element) {
			t.Errorf("%q has an open quote", element)
		}
		if rest == "" {
			if host != "" && !strings.ContainsFunc(host, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("host %q was left out", host)
			}
			return
		}
		value := strings.TrimPrefix(rest, ";host=")
		if quoted, ok := strings.CutPrefix(value, `"`); ok {
			var b strings.Builder
			for i := 0; i < len(quoted); i++ {
				switch quoted[i] {
				case '\\':
					i++
				case '"':
					if i != len(quoted)-1 {
						t.Fatalf("%q ends before its end", value)
					}
					continue
				}
				b.WriteByte(quoted[i])
			}
			value = b.String()
		} else if strings.ContainsAny(value, "\"(),/:;<=>?@[\\]{} \t") {
			t.Errorf("%q is neither a token nor quoted", value)
		}
		if value != host {
			t.Errorf("host %q reads back as %q", host, value)
		}
	})
}

// TestForwardedChainIsBounded: of an X-Forwarded-For of many entries, which a
// viewer can write and a trusted proxy pass on, no header is made that is many
// times as long, nor with work that grows as its square.
func TestForwardedChainIsBounded(t *testing.T) {
	f := forwarding{trusted: mustTrust(t, "10.0.0.0/8")}
	apply := func(chain string) http.Header {
		in := &http.Request{RemoteAddr: "10.0.0.1:80", Host: "h", Header: http.Header{headerForwardedFor: {chain}}}
		out := in.Header.Clone()
		f.apply(out, in, "a", "/a")
		return out
	}
	out := apply(strings.Repeat("192.0.2.1,", maxHops-1) + "192.0.2.1")
	if n := strings.Count(out.Get(headerForwarded), "for=192.0.2.1"); n != maxHops {
		t.Errorf("of %d entries %d are translated", maxHops, n)
	}
	long := strings.Repeat(",", 8<<10) + "192.0.2.1"
	out = apply(long)
	if got, want := out.Get(headerForwarded), "for=10.0.0.1;host=h;proto=http"; got != want {
		t.Errorf("of %d entries: Forwarded is %d bytes, %.100s, want %s", strings.Count(long, ",")+1, len(got), got, want)
	}
	if got := out.Get(headerForwardedFor); got != long+", 10.0.0.1" {
		t.Errorf("X-Forwarded-For has %d bytes, want what the proxy said and the proxy", len(got))
	}
}

// TestUnixSocketProxy: a proxy that connects through a Unix socket has no
// address, and is trusted where TrustedProxies has the word unix, over HTTP/1.1
// and HTTP/2.
func TestUnixSocketProxy(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		cfg := Config{PublicURL: "https://tunnel.example", ViewerDomain: "t.example"}
		if trusted {
			cfg.TrustedProxies = []string{"unix"}
		}
		s := newService(t, cfg)
		s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { r.Header.Write(w) }))
		path := filepath.Join(t.TempDir(), "s")
		ln, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		t.Cleanup(func() { s.Close(); <-served })
		for _, http2 := range []bool{false, true} {
			tr := &http.Transport{
				Protocols:   new(http.Protocols),
				DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) },
			}
			tr.Protocols.SetHTTP1(!http2)
			tr.Protocols.SetUnencryptedHTTP2(http2)
			req := httptest.NewRequest("GET", "http://upstream/", nil)
			req.RequestURI = ""
			req.Header = http.Header{"X-Forwarded-For": {"203.0.113.9"}, "X-Forwarded-Host": {"a.t.example"}, "X-Forwarded-Ssl": {"on"}}
			if !trusted {
				req.Host = "a.t.example"
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			tr.CloseIdleConnections()
			for _, want := range []string{"X-Forwarded-For: 203.0.113.9\r\n", "X-Forwarded-Ssl: on\r\n", "X-Forwarded-Proto: https\r\n"} {
				if strings.Contains(string(body), want) != trusted {
					t.Errorf("trusted %v, HTTP/2 %v: the target sees %q", trusted, http2, body)
				}
			}
		}
	}
}
