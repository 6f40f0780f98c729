package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestRefused: what docs/compatibility.md says never reaches a target.
func TestRefused(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	tgt := newRawTarget(t, (*rawTarget).serveHTTP1)
	s.Proxy("id", tgt.addr(), tunnelclient.ProxyOptions{})
	for _, tc := range []struct {
		name, line, headers string
		http1               string // status
		http2               string // status, or the code of the reset
	}{
		{"malformed escape", "GET /id/%zz", "", "400", "PROTOCOL_ERROR"},
		{"half an escape", "GET /id/%4", "", "400", "PROTOCOL_ERROR"},
		{"space in path", "GET /id/a b", "", "400", ""},
		{"space in query", "GET /id/?a b", "", "400", ""},
		{"control character in path", "GET /id/a\x01b", "", "400", "PROTOCOL_ERROR"},
		{"DEL in path", "GET /id/a\x7fb", "", "400", "PROTOCOL_ERROR"},
		{"control character in query", "GET /id/?a\x01b", "", "400", "PROTOCOL_ERROR"},
		{"headers over 64 KiB", "GET /id/", strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 72), "431", "431"},
		{"path over 64 KiB", "GET /id/" + strings.Repeat("a", 72000), "", "431", "connection error: COMPRESSION_ERROR"},
		{"asterisk", "OPTIONS *", "", "400", "400"},
		{"another expectation", "GET /id/", "Expect: miracles\r\n", "417", ""},
		{"control character in a value", "GET /id/", "X-A: a\x01b\r\n", "400", "PROTOCOL_ERROR"},
		{"method that is no token", "G(T /id/", "", "400", "400"},
	} {
		request := tc.line + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + tc.headers + "\r\n"
		t.Run(tc.name+", HTTP/1.1", func(t *testing.T) {
			c := dialRaw(t, s.Addr)
			go io.WriteString(c, request) // the answer may come before its end
			m, err := readMessage(bufio.NewReader(c), "GET")
			if err != nil || m.status() != tc.http1 {
				t.Errorf("got %q, %v; want %s", m.start, err, tc.http1)
			}
		})
		if tc.http2 == "" {
			continue // goes through: TestHTTP2Requests
		}
		t.Run(tc.name+", HTTP/2", func(t *testing.T) {
			f := dialHTTP2(t, s.Addr)
			method, path, _ := strings.Cut(tc.line, " ")
			var lines []string
			for line := range strings.SplitSeq(strings.TrimSuffix(tc.headers, "\r\n"), "\r\n") {
				if line != "" {
					lines = append(lines, strings.ToLower(line))
				}
			}
			m := message{framing: "none", headers: lines}
			if err := f.write(1, m, requestPseudo(method, path, "h")...); err != nil {
				t.Fatal(err)
			}
			if got := outcome(f.read(1, method)); got != tc.http2 {
				t.Errorf("got %s, want %s", got, tc.http2)
			}
			if strings.HasPrefix(tc.http2, "connection error") {
				for err := error(nil); err == nil; { // until the service has closed it
					_, err = f.framer.ReadFrame()
				}
			}
		})
	}
	if len(tgt.seen) > 0 {
		t.Errorf("the target saw %q", <-tgt.seen)
	}
}

// outcome is an answer's status, or the code of the reset that came instead.
func outcome(_ uint32, all []message, err error) string {
	var reset http2.StreamError
	if errors.As(err, &reset) {
		return reset.Code.String()
	}
	if err != nil || len(all) == 0 {
		return fmt.Sprint(err)
	}
	return all[len(all)-1].status()
}

// TestHTTP2Requests: what only an HTTP/2 viewer can send, as an HTTP/1.1
// target sees it.
func TestHTTP2Requests(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	tgt := newRawTarget(t, (*rawTarget).serveHTTP1)
	s.Proxy("id", tgt.addr(), tunnelclient.ProxyOptions{})
	s.Proxy("refused", tunneltest.ServeConns(t, serveEcho).Addr().String(), tunnelclient.ProxyOptions{}) // may get the beginning
	for _, tc := range []struct {
		name    string
		pseudo  []hpack.HeaderField
		headers []string
		trailer []string
		want    string   // status, or the code of the reset
		start   string   // that the target sees
		seen    []string // its other headers
		orSeen  bool     // net/http's own server, in builds without the tag, looks at :authority only
	}{
		{name: "cookie crumbs between others", headers: []string{"cookie: a=1", "x-a: 1", "cookie: b=2; c=3", "x-b: 2", "cookie: d=\xe4", "cookie: e"},
			seen: []string{"cookie: a=1; b=2; c=3; d=\xe4; e", "host: viewer.example", "x-a: 1", "x-b: 2"}},
		{name: "a hundred crumbs", headers: slicesOf(100, "cookie: a=1"),
			seen: []string{"cookie: " + strings.Join(slicesOf(100, "a=1"), "; "), "host: viewer.example"}},
		{name: "host only", pseudo: requestPseudo("GET", "/id/", ""), headers: []string{"host: other.example:81"},
			seen: []string{"host: other.example:81"}},
		{name: "authority and the same host", headers: []string{"host: viewer.example"}},
		{name: "authority and another host", headers: []string{"host: other.example"}, want: "PROTOCOL_ERROR", orSeen: !h2conn.ExtendedConnect},
		{name: "space in path", pseudo: requestPseudo("GET", "/id/a b?c d", "viewer.example"), start: "GET /a%20b?c%20d HTTP/1.1"},
		{name: "another expectation", headers: []string{"expect: miracles"}, seen: []string{"expect: miracles", "host: viewer.example"}},
		{name: "forbidden trailer, announced", headers: []string{"trailer: authorization"}, trailer: []string{"authorization: x"}, want: "PROTOCOL_ERROR"},
		{name: "connection header", headers: []string{"connection: close"}, want: "400"},
		{name: "te", headers: []string{"te: gzip"}, want: "400"},
		{name: "upper-case name", headers: []string{"X-A: 1"}, want: "PROTOCOL_ERROR"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.pseudo == nil {
				path := "/id/"
				if tc.want != "" {
					path = "/refused/"
				}
				tc.pseudo = requestPseudo("GET", path, "viewer.example")
			}
			if tc.start == "" {
				tc.start = "GET / HTTP/1.1"
			}
			if tc.seen == nil {
				tc.seen = []string{"host: viewer.example"}
			}
			m := message{framing: "none", headers: tc.headers, trailer: tc.trailer}
			if tc.trailer != nil {
				m.framing = "stream"
			}
			f := dialHTTP2(t, s.Addr)
			if err := f.write(1, m, tc.pseudo...); err != nil {
				t.Fatal(err)
			}
			if tc.want != "" {
				if got := outcome(f.read(1, "GET")); got != tc.want && (!tc.orSeen || got != "200") {
					t.Errorf("got %s, want %s", got, tc.want)
				}
				return
			}
			seen, _ := tgt.observe(t, plain200, func() []message {
				if got := outcome(f.read(1, "GET")); got != "200" {
					t.Fatalf("got %s", got)
				}
				return nil
			})
			seen.drop(serviceAdds...)
			if want := (message{start: tc.start, headers: tc.seen, framing: "none"}); len(compare(want, seen)) > 0 {
				t.Errorf("the target saw %q, which differs by %q", seen.lines(), compare(want, seen))
			}
		})
	}
}

func slicesOf(n int, s string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = s
	}
	return all
}

// TestHeaderNames: their case and the order of different ones are not carried
// to HTTP/1.1.
func TestHeaderNames(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	tgt := newRawTarget(t, (*rawTarget).serveHTTP1)
	s.Proxy("id", tgt.addr(), tunnelclient.ProxyOptions{})
	seen, got := tgt.observe(t, "HTTP/1.1 200 OK\r\nx-LOWER: 1\r\ncontent-length: 0\r\na-first: 1\r\nETag: x\r\n\r\n", func() []message {
		return askHTTP1(t, s.Addr, "GET /id/ HTTP/1.1\r\nX-UPPER: 1\r\nHost: h\r\na-first: 1\r\ndnt: 1\r\n\r\n")
	})
	names := strings.Join(seen.names, " ")
	if want := "Host A-First Cdn-Loop Dnt Forwarded X-Forwarded-For X-Forwarded-Host X-Forwarded-Prefix X-Forwarded-Proto X-Request-Id X-Upper X-Websocktunnel-Original-Path X-Websocktunnel-Request-Id"; names != want {
		t.Errorf("the target saw %s, want %s", names, want)
	}
	if names, want := strings.Join(got[0].names, " "), "A-First Content-Length Etag X-Lower"; names != want {
		t.Errorf("the viewer saw %s, want %s", names, want)
	}
}
