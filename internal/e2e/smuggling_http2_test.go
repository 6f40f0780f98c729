package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

const smuggledRequest = "GET /id/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

// downgrades are HTTP/2 requests that become something else where they are
// written as HTTP/1.1 without care.
var downgrades = []struct {
	name    string
	fields  string // pseudo-headers and headers, one a line; "|" is CR LF and "^" LF
	data    []string
	trailer string
	want    string // status, or the code of the reset; or several of which one has to come
	target  string // as saw writes it
	legacy  bool   // net/http's own server, in builds without the tag, lets it pass as one request
}{
	{name: "plain", fields: "GET /id/x", want: "200", target: "GET /x"},
	{name: "body without a length", fields: "POST /id/x", data: []string{"hel", "lo"}, want: "200", target: `POST /x "hello"`},
	{name: "body with its length", fields: "POST /id/x\ncontent-length: 5", data: []string{"hello"}, want: "200", target: `POST /x "hello"`},
	{name: "a request in the body", fields: "POST /id/x", data: []string{smuggledRequest}, want: "200", target: `POST /x "GET /id/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"`},
	{name: "a request in the body of a GET", fields: "GET /id/x", data: []string{smuggledRequest}, want: "200", target: `GET /x "GET /id/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"`},
	{name: "the end of chunks in the body", fields: "POST /id/x", data: []string{"0\r\n\r\n" + smuggledRequest}, want: "200", target: `POST /x "0\r\n\r\nGET /id/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"`},
	{name: "length zero and a body", fields: "POST /id/maybe\ncontent-length: 0", data: []string{smuggledRequest}, want: "200 PROTOCOL_ERROR"},
	{name: "length too short", fields: "POST /id/x\ncontent-length: 5", data: []string{"hello" + smuggledRequest}, want: "PROTOCOL_ERROR"},
	{name: "length too long", fields: "POST /id/x\ncontent-length: 50", data: []string{"hello"}, want: "400"},
	{name: "length and no body", fields: "POST /id/x\ncontent-length: 5", want: "400 PROTOCOL_ERROR"},
	{name: "two lengths", fields: "POST /id/x\ncontent-length: 5\ncontent-length: 6", data: []string{"hello"}, want: "400 PROTOCOL_ERROR"},
	{name: "twice the same length", fields: "POST /id/x\ncontent-length: 5\ncontent-length: 5", data: []string{"hello"}, want: "400", legacy: true},
	{name: "a list of lengths", fields: "POST /id/x\ncontent-length: 5, 5", data: []string{"hello"}, want: "400 PROTOCOL_ERROR"},
	{name: "length with a plus", fields: "POST /id/x\ncontent-length: +5", data: []string{"hello"}, want: "400 PROTOCOL_ERROR"},
	{name: "negative length", fields: "POST /id/x\ncontent-length: -5", data: []string{"hello"}, want: "400 PROTOCOL_ERROR"},
	{name: "hexadecimal length", fields: "POST /id/x\ncontent-length: 0x5", data: []string{"hello"}, want: "400 PROTOCOL_ERROR"},
	{name: "length over 64 bits", fields: "POST /id/x\ncontent-length: 18446744073709551621", data: []string{"hello"}, want: "400 PROTOCOL_ERROR"},
	{name: "length with a line end", fields: "POST /id/x\ncontent-length: 5|transfer-encoding: chunked", data: []string{"hello"}, want: "PROTOCOL_ERROR"},
	{name: "transfer-encoding", fields: "POST /id/x\ntransfer-encoding: chunked", data: []string{"0\r\n\r\n" + smuggledRequest}, want: "400"},
	{name: "transfer-encoding, odd", fields: "POST /id/x\ntransfer-encoding:  Chunked ", data: []string{"0\r\n\r\n" + smuggledRequest}, want: "400"},
	{name: "transfer-encoding of a GET", fields: "GET /id/x\ntransfer-encoding: chunked", want: "400"},
	{name: "connection", fields: "GET /id/x\nconnection: close", want: "400"},
	{name: "connection that names a header", fields: "GET /id/x\nconnection: x-forwarded-for", want: "400"},
	{name: "keep-alive", fields: "GET /id/x\nkeep-alive: timeout=5", want: "400"},
	{name: "proxy-connection", fields: "GET /id/x\nproxy-connection: keep-alive", want: "400"},
	{name: "upgrade", fields: "GET /id/x\nupgrade: websocket", want: "400"},
	{name: "upgrade to h2c", fields: "GET /id/x\nupgrade: h2c\nhttp2-settings: AAMAAABkAAQCAAAAAAIAAAAA", want: "400"},
	{name: "te: trailers", fields: "GET /id/x\nte: trailers", want: "200", target: "GET /x"},
	{name: "te: chunked", fields: "GET /id/x\nte: chunked", want: "400"},
	{name: "line end in a value", fields: "GET /id/x\nx-a: 1|x-b: 2", want: "PROTOCOL_ERROR"},
	{name: "a request in a value", fields: "GET /id/x\nx-a: 1||" + strings.ReplaceAll(smuggledRequest, "\r\n", "|"), want: "PROTOCOL_ERROR"},
	{name: "LF in a value", fields: "GET /id/x\nx-a: 1^x-b: 2", want: "PROTOCOL_ERROR"},
	{name: "CR in a value", fields: "GET /id/x\nx-a: 1\rx-b: 2", want: "PROTOCOL_ERROR"},
	{name: "NUL in a value", fields: "GET /id/x\nx-a: 1\x002", want: "PROTOCOL_ERROR"},
	{name: "line end in a name", fields: "GET /id/x\nx-a|x-b: 2", want: "PROTOCOL_ERROR"},
	{name: "colon in a name", fields: "GET /id/x\nx-a:b: 2", want: "PROTOCOL_ERROR"},
	{name: "space in a name", fields: "GET /id/x\nx a: 2", want: "PROTOCOL_ERROR"},
	{name: "upper case in a name", fields: "GET /id/x\nX-A: 2", want: "PROTOCOL_ERROR"},
	{name: "length with a space in its name", fields: "POST /id/x\ncontent-length : 5", data: []string{"hello"}, want: "PROTOCOL_ERROR"},
	{name: "empty name", fields: "GET /id/x\n: x", want: "PROTOCOL_ERROR"},
	{name: "8-bit value", fields: "GET /id/x\nx-a: \xe4", want: "200", target: "GET /x"},
	{name: "space in path", fields: "GET /id/x HTTP/1.1", want: "200", target: "GET /x%20HTTP/1.1"},
	{name: "a request in the path", fields: "GET /id/x HTTP/1.1|Host: h||GET /id/smuggled", want: "PROTOCOL_ERROR"},
	{name: "LF in path", fields: "GET /id/x^", want: "PROTOCOL_ERROR"},
	{name: "NUL in path", fields: "GET /id/x\x00", want: "PROTOCOL_ERROR"},
	{name: "tab in path", fields: "GET /id/\tx", want: "PROTOCOL_ERROR"},
	{name: "space in query", fields: "GET /id/x?a b HTTP/1.1", want: "200", target: "GET /x?a%20b%20HTTP/1.1"},
	{name: "fragment", fields: "GET /id/x#y", want: "200", target: "GET /x#y"},
	{name: "absolute path", fields: "GET http://evil/id/x", want: "PROTOCOL_ERROR"},
	{name: "path without a slash", fields: "GET id/x", want: "PROTOCOL_ERROR"},
	{name: "no path", fields: "GET ", want: "PROTOCOL_ERROR"},
	{name: "asterisk", fields: "OPTIONS *", want: "400"},
	{name: "asterisk of a GET", fields: "GET *", want: "400"},
	{name: "two slashes", fields: "GET /id//evil/x", want: "200", target: "GET //evil/x"},
	{name: "two slashes before the id", fields: "GET //id/x", want: "400"},
	{name: "query, byte for byte", fields: "GET /id/?a=1;b=2&c=%zz&%0d%0a", want: "200", target: "GET /?a=1;b=2&c=%zz&%0d%0a"},
	{name: "method with a space", fields: "!\n:method: GET /id/smuggled HTTP/1.1\n:scheme: http\n:path: /id/x\n:authority: h", want: "400"},
	{name: "method with a line end", fields: "!\n:method: GET|\n:scheme: http\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "method that is no token", fields: "!\n:method: G@T\n:scheme: http\n:path: /id/x\n:authority: h", want: "400"},
	{name: "empty method", fields: "!\n:method: \n:scheme: http\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "no method", fields: "!\n:scheme: http\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "two methods", fields: "!\n:method: GET\n:method: POST\n:scheme: http\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "two paths", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:path: /id/smuggled\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "two authorities", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: h\n:authority: evil", want: "PROTOCOL_ERROR"},
	{name: "pseudo-header behind a header", fields: "!\n:method: GET\n:scheme: http\nx-a: 1\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "unknown pseudo-header", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: h\n:evil: 1", want: "PROTOCOL_ERROR"},
	{name: ":status", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: h\n:status: 200", want: "PROTOCOL_ERROR"},
	{name: "no scheme", fields: "!\n:method: GET\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "odd scheme", fields: "!\n:method: GET\n:scheme: gopher\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "a request in the scheme", fields: "!\n:method: GET\n:scheme: http://evil/id/smuggled HTTP/1.1||\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "host beside the authority", fields: "GET /id/x\nhost: h", want: "200", target: "GET /x"},
	{name: "another host", fields: "GET /id/x\nhost: evil", want: "PROTOCOL_ERROR", legacy: true},
	{name: "two hosts", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\nhost: h\nhost: evil", want: "PROTOCOL_ERROR", legacy: true},
	{name: "neither host nor authority", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x", want: "200", target: "GET /x"},
	{name: "user in the authority", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: u@h", want: "PROTOCOL_ERROR"},
	{name: "path in the authority", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: h/smuggled", want: "PROTOCOL_ERROR 400"},
	{name: "line end in the authority", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: h|x-a: 1", want: "PROTOCOL_ERROR"},
	{name: "space in the authority", fields: "!\n:method: GET\n:scheme: http\n:path: /id/x\n:authority: h evil", want: "PROTOCOL_ERROR 400"},
	{name: "CONNECT", fields: "!\n:method: CONNECT\n:authority: evil:80", want: "405"},
	{name: "CONNECT with a path", fields: "!\n:method: CONNECT\n:scheme: http\n:path: /id/x\n:authority: h", want: "PROTOCOL_ERROR"},
	{name: "trailer", fields: "POST /id/x\ntrailer: x-t", data: []string{"hello"}, trailer: "x-t: 1", want: "200", target: `POST /x "hello"`},
	{name: "unannounced trailer", fields: "POST /id/x", data: []string{"hello"}, trailer: "x-t: 1", want: "200", target: `POST /x "hello"`},
	{name: "length as trailer", fields: "POST /id/x", data: []string{"hello"}, trailer: "content-length: 7", want: "200", target: `POST /x "hello"`},
	{name: "transfer-encoding as trailer", fields: "POST /id/x", data: []string{"hello"}, trailer: "transfer-encoding: chunked", want: "200", target: `POST /x "hello"`},
	{name: "pseudo-header as trailer", fields: "POST /id/x", data: []string{"hello"}, trailer: ":path: /id/smuggled", want: "PROTOCOL_ERROR"},
	{name: "line end in a trailer", fields: "POST /id/x\ntrailer: x-t", data: []string{"hello"}, trailer: "x-t: 1||" + strings.ReplaceAll(smuggledRequest, "\r\n", "|"), want: "PROTOCOL_ERROR"},
	{name: "private headers", fields: "GET /id/x\nx-websocktunnel-upgrade: foo\nx-websocktunnel-upgrade-body: chunked\nx-websocktunnel-expect: 100-continue", want: "200", target: "GET /x"},
	{name: "registration", fields: "GET /\nx-websocktunnel-id: id\nauthorization: Bearer x", want: "401"},
}

var lineEnds = strings.NewReplacer("|", "\r\n", "^", "\n")

// downgradeFields are the fields of an entry.
func downgradeFields(s string) (fields []hpack.HeaderField) {
	first, rest, _ := strings.Cut(s, "\n")
	if first != "!" {
		method, path, _ := strings.Cut(first, " ")
		fields = requestPseudo(method, lineEnds.Replace(path), "h")
	}
	for line := range strings.SplitSeq(rest, "\n") {
		if line == "" {
			continue
		}
		at := strings.Index(line[1:], ": ") + 1
		fields = append(fields, hpack.HeaderField{Name: lineEnds.Replace(line[:at]), Value: lineEnds.Replace(line[at+2:])})
	}
	return fields
}

// TestDowngrades is TestSmuggling for what HTTP/2 viewers send.
func TestDowngrades(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	target := newStrictTarget()
	s.Proxy("id", tunneltest.ServeConns(t, target.serveHTTP1).Addr().String(), tunnelclient.ProxyOptions{})
	client := tunneltest.NewViewer(t)
	if resp, err := client.Get(s.URL + "/id/ready"); err != nil || tunneltest.ReadAll(t, resp) != <-target.requests {
		t.Fatal(err)
	}
	session := sessionOf(s, "id")
	for i, d := range downgrades {
		t.Run(d.name, func(t *testing.T) {
			f := dialHTTP2(t, s.Addr)
			err := f.writeFields(1, downgradeFields(d.fields), d.data == nil)
			for j, part := range d.data {
				if err == nil {
					err = f.framer.WriteData(1, j == len(d.data)-1 && d.trailer == "", []byte(part))
				}
			}
			if d.trailer != "" && err == nil {
				err = f.writeFields(1, downgradeFields("!\n"+d.trailer), true)
			}
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(f.read(1, "GET"))
			code := strings.TrimPrefix(got, "connection error: ")
			lenient := d.legacy && !h2conn.ExtendedConnect
			if !slices.Contains(strings.Fields(d.want), code) && !lenient {
				t.Errorf("the viewer got %s, want %s", got, d.want)
			}
			last := fmt.Sprintf("GET /probe-%d", i)
			resp, err := client.Get(s.URL + "/id" + strings.TrimPrefix(last, "GET "))
			if err != nil {
				t.Fatal(err)
			}
			if got := tunneltest.ReadAll(t, resp); got != last {
				t.Errorf("the probe got %d %q", resp.StatusCode, got)
			}
			var want []string
			if d.target != "" {
				want = []string{d.target}
			}
			if lenient && code == "200" { // well-formed, and one
				select {
				case got := <-target.requests:
					if !strings.Contains(got, " /x") {
						t.Errorf("the target saw %q", got)
					}
				case <-time.After(10 * time.Second):
					t.Error("the target saw nothing")
				}
			}
			target.expect(t, want, last)
		})
	}
	if now := sessionOf(s, "id"); now != session {
		t.Errorf("the tunnel has another session: %s, and before %s", now, session)
	}
}
