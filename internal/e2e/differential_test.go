package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// An exchange is one raw HTTP/1.1 request and what a raw target answers. It is
// made twice, with the target directly and through a tunnel, and what each end
// recorded must be the same. To add a row, write down both messages as they
// go over the wire; in the request, the path is what the target is to see.
type exchange struct {
	name    string
	request string // "METHOD /path HTTP/1.1\r\n…"; Host is added if it is missing
	answer  string // sent when the request has been read; "" means a plain 200

	// What may differ, and only for reasons that docs/compatibility.md has.
	ignoreAtTarget []string // header names, lower case
	ignoreAtViewer []string
}

const plain200 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

var exchanges = []exchange{
	{name: "plain", request: "GET / HTTP/1.1\r\n\r\n"},
	{name: "no user agent", request: "GET /ua HTTP/1.1\r\nAccept: */*\r\n\r\n"},
	{name: "accept-encoding kept", request: "GET / HTTP/1.1\r\nAccept-Encoding: br;q=1.0, gzip;q=0.8\r\n\r\n"},

	// Methods.
	{name: "HEAD", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"},
	{name: "HEAD chunked", request: "HEAD /x HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ignoreAtViewer: []string{"transfer-encoding"}},
	{name: "OPTIONS", request: "OPTIONS /x HTTP/1.1\r\n\r\n"},
	{name: "TRACE", request: "TRACE /x HTTP/1.1\r\n\r\n"},
	{name: "unknown method", request: "PROPFIND /x HTTP/1.1\r\nDepth: 1\r\n\r\n"},
	{name: "lower-case method", request: "get /x HTTP/1.1\r\n\r\n"},
	{name: "DELETE with body", request: "DELETE /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"},
	{name: "GET with body", request: "GET /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"},

	// Paths and queries.
	{name: "escaped slash", request: "GET /a%2Fb%2fc HTTP/1.1\r\n\r\n"},
	{name: "dots", request: "GET /a/../b/./c//d HTTP/1.1\r\n\r\n"},
	{name: "leading double slash", request: "GET //evil/x HTTP/1.1\r\n\r\n"},
	{name: "NUL escape", request: "GET /%00%ff%e4 HTTP/1.1\r\n\r\n"},
	{name: "reserved", request: "GET /;v=1,2/@:!$&'()*+=~ HTTP/1.1\r\n\r\n"},
	{name: "brackets", request: "GET /[a] HTTP/1.1\r\n\r\n"},
	{name: "semicolons in query", request: "GET /?a=1;b=2&c HTTP/1.1\r\n\r\n"},
	{name: "bad escape in query", request: "GET /?a=%zz&b=%&c=%2 HTTP/1.1\r\n\r\n"},
	{name: "empty query", request: "GET /x? HTTP/1.1\r\n\r\n"},
	{name: "question marks", request: "GET /x?a?b??c=/../ HTTP/1.1\r\n\r\n"},
	{name: "query of many", request: "GET /?" + strings.Repeat("a=b&", 500) + " HTTP/1.1\r\n\r\n"},
	{name: "8-bit query", request: "GET /?\xc3\xa4=1 HTTP/1.1\r\n\r\n"},

	// Request headers.
	{name: "repeated", request: "GET / HTTP/1.1\r\nX-A: 1\r\nX-A: 2\r\nX-A: 1\r\n\r\n"},
	{name: "empty value", request: "GET / HTTP/1.1\r\nX-A:\r\n\r\n"},
	{name: "8-bit value", request: "GET / HTTP/1.1\r\nX-A: \xe4\xf6\r\n\r\n"},
	{name: "commas", request: "GET / HTTP/1.1\r\nX-A: a, b,c ,d\r\n\r\n"},
	{name: "cookies", request: "GET / HTTP/1.1\r\nCookie: a=1; b=\"x y\"; c=\r\n\r\n"},
	{name: "authorization", request: "GET / HTTP/1.1\r\nAuthorization: Basic dTpw\r\n\r\n"},
	{name: "host with port", request: "GET / HTTP/1.1\r\nHost: Example.org:8443\r\n\r\n"},
	{name: "te trailers", request: "GET / HTTP/1.1\r\nConnection: TE\r\nTE: trailers\r\n\r\n"},
	{name: "range", request: "GET / HTTP/1.1\r\nRange: bytes=0-3\r\nIf-Range: \"x\"\r\n\r\n", answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/10\r\nContent-Length: 4\r\n\r\n0123"},
	{name: "h2c offer", request: "GET / HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", ignoreAtTarget: []string{"upgrade", "http2-settings"}},

	// Request bodies.
	{name: "length", request: "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"},
	{name: "length zero", request: "POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
	{name: "PUT length zero", request: "PUT /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"},
	{name: "chunked", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\n\r\n"},
	{name: "chunked empty", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{name: "chunked with trailers", request: "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"},
	{name: "content-type kept", request: "POST /x HTTP/1.1\r\nContent-Type: application/x-thing;  q=1\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"},

	// Statuses.
	{name: "201", request: "POST /x HTTP/1.1\r\nContent-Length: 0\r\n\r\n", answer: "HTTP/1.1 201 Created\r\nLocation: /x/1\r\nContent-Length: 0\r\n\r\n"},
	{name: "204", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n"},
	{name: "205", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"},
	{name: "302", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n"},
	{name: "304", request: "GET / HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n"},
	{name: "401", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno"},
	{name: "404", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"},
	{name: "451", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 451 Unavailable For Legal Reasons\r\nContent-Length: 2\r\n\r\nno"},
	{name: "502 of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\nProxy-Status: mine\r\n\r\nmine"},
	{name: "599", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n"},

	// Answers' headers: nothing added, nothing doubled.
	{name: "nothing but a length", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"},
	{name: "date and server", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: mine\r\nContent-Length: 0\r\n\r\n"},
	{name: "repeated answer headers", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nX-A: 2\r\nX-A: 1\r\nVary: a\r\nVary: b\r\nLink: <a>; rel=b\r\nX-Empty:\r\nX-Bits: \xe4\r\nContent-Length: 0\r\n\r\n"},
	{name: "content-type with a body", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Type: text/x;  a=\"b\"\r\nContent-Length: 2\r\n\r\nok"},
	{name: "encoded body", request: "GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8bx"},
	{name: "cookies without a path", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nSet-Cookie: a=1; HttpOnly\r\nSet-Cookie: b=2; SameSite=Lax; Expires=Thu, 01 Jan 2037 00:00:00 GMT\r\nContent-Length: 0\r\n\r\n"},
	{name: "connection close of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
	{name: "keep-alive of the target", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok", ignoreAtViewer: []string{"keep-alive", "x-hop"}},

	// Answers' bodies.
	{name: "chunked answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"},
	{name: "empty chunked answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{name: "announced trailers", request: "GET / HTTP/1.1\r\nConnection: TE\r\nTE: trailers\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-More\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\nX-More: 1\r\n\r\n"},
	{name: "unannounced trailers", request: "GET / HTTP/1.1\r\nConnection: TE\r\nTE: trailers\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"},
	{name: "close-delimited answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"},
	{name: "large answer", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + strings.Repeat("0123456789", 300000)},

	// Interim answers.
	{name: "102 and 103", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n" + plain200},
	{name: "unknown 1xx", request: "GET / HTTP/1.1\r\n\r\n", answer: "HTTP/1.1 142 Odd\r\nX-A: 1\r\n\r\n" + plain200},
}

// TestDifferential makes every exchange directly and through a tunnel.
func TestDifferential(t *testing.T) {
	s := newService(t, server.Config{})
	tgt := newRawTarget(t)
	p, err := tunnelclient.ProxyTo(tgt.ln.Addr().String(), tunnelclient.ProxyOptions{Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.(interface{ CloseIdleConnections() }).CloseIdleConnections)
	s.client("id", p, h2conn.Config{})

	var rows strings.Builder
	for _, x := range exchanges {
		t.Run(x.name, func(t *testing.T) {
			defer func() { rows.WriteString(tableRow(x, t.Failed())) }()
			if !strings.Contains(x.request, "\r\nHost:") {
				x.request = strings.Replace(x.request, "\r\n", "\r\nHost: viewer.example\r\n", 1)
			}
			if x.answer == "" {
				x.answer = plain200
			}
			method, rest, _ := strings.Cut(x.request, " ")
			directTarget, directViewer := tgt.exchange(t, tgt.ln.Addr().String(), x.request, x.answer, method)
			tunnelTarget, tunnelViewer := tgt.exchange(t, s.addr, method+" /id"+rest, x.answer, method)

			// What the contract says is added or taken away.
			drop(&directTarget, append(x.ignoreAtTarget, "connection", "keep-alive")...)
			drop(&tunnelTarget, append(x.ignoreAtTarget, "connection", "keep-alive", "forwarded",
				"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-prefix", "x-websocktunnel-original-path")...)
			for i := range directViewer {
				drop(&directViewer[i], append(x.ignoreAtViewer, "connection")...)
			}
			for i := range tunnelViewer {
				drop(&tunnelViewer[i], append(x.ignoreAtViewer, "connection")...)
			}
			if d, g := directTarget.String(), tunnelTarget.String(); d != g {
				t.Errorf("the target saw\n%s\nthrough the tunnel, and directly\n%s", g, d)
			}
			if len(directViewer) != len(tunnelViewer) {
				t.Fatalf("the viewer got %d messages, and directly %d:\n%v", len(tunnelViewer), len(directViewer), tunnelViewer)
			}
			for i := range directViewer {
				if d, g := directViewer[i].String(), tunnelViewer[i].String(); d != g {
					t.Errorf("the viewer got\n%.2000s\nthrough the tunnel, and directly\n%.2000s", g, d)
				}
			}
		})
	}
	if strings.Count(rows.String(), "\n") == len(exchanges) { // not with -run
		checkTable(t, rows.String())
	}
}

// updateTable makes TestDifferential write its table into the documentation.
var updateTable = flag.Bool("update-table", false, "rewrite the table of exchanges in docs/compatibility.md")

const (
	tablePath  = "../../docs/compatibility.md"
	tableBegin = "<!-- table of exchanges: go test -run Differential -update-table ./internal/e2e -->\n"
	tableEnd   = "<!-- end of the table of exchanges -->\n"
)

// tableRow is the row of x in the table of exchanges.
func tableRow(x exchange, failed bool) string {
	line, _, _ := strings.Cut(x.request, "\r\n")
	line = strings.TrimSuffix(line, " HTTP/1.1")
	if len(line) > 60 {
		line = line[:57] + "..."
	}
	final := x.answer[strings.LastIndex(x.answer, "HTTP/1.1 "):]
	status, _, _ := strings.Cut(strings.TrimPrefix(final, "HTTP/1.1 "), "\r\n")
	result := "the same"
	if left := append(slices.Clone(x.ignoreAtTarget), x.ignoreAtViewer...); len(left) > 0 {
		result += ", but for `" + strings.Join(left, "`, `") + "`"
	}
	if failed {
		result = "**different**"
	}
	return fmt.Sprintf("| %s | `%s` | %s | %s |\n", x.name, strings.ReplaceAll(strings.ToValidUTF8(line, "?"), "|", "\\|"), status, result)
}

// checkTable compares the table in the documentation with what was run.
func checkTable(t *testing.T, rows string) {
	doc, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(doc), tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no table of exchanges", tablePath)
	}
	head := "| exchange | request | direct | through a tunnel |\n|---|---|---|---|\n"
	if *updateTable {
		table := fmt.Sprintf("Last written with %s, x/net as in go.mod, on %s.\n\n", runtime.Version(), runtime.GOOS) + head + rows
		if err := os.WriteFile(tablePath, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !strings.HasSuffix(old, head+rows) {
		t.Errorf("the table of exchanges in %s is not what this test does: run it with -update-table", tablePath)
	}
}

// message is one HTTP/1.1 message as recorded.
type message struct {
	start   string
	headers []string // "name: value", names in lower case, sorted by name only
	body    string
	framing string // how the body's end is known
	trailer []string
}

func (m message) String() string {
	return fmt.Sprintf("%s\n%s\n[%s] %d bytes %.300q\n%s", m.start, strings.Join(m.headers, "\n"), m.framing, len(m.body), m.body, strings.Join(m.trailer, "\n"))
}

// drop removes headers whose presence may differ.
func drop(m *message, names ...string) {
	m.headers = slices.DeleteFunc(m.headers, func(h string) bool {
		name, _, _ := strings.Cut(h, ":")
		return slices.Contains(names, name)
	})
}

// readMessage reads one message. method is that of the request if it is an
// answer, else "".
func readMessage(br *bufio.Reader, method string) (m message, err error) {
	if m.start, err = readLine(br); err != nil {
		return m, err
	}
	if method != "" { // reason phrases are not carried, docs/compatibility.md
		m.start, _, _ = strings.Cut(strings.TrimPrefix(m.start, "HTTP/1.1 "), " ")
	}
	if m.headers, err = readFields(br); err != nil {
		return m, err
	}
	length, chunked := -1, false
	for _, h := range m.headers {
		if v, ok := strings.CutPrefix(h, "content-length: "); ok {
			length, _ = strconv.Atoi(v)
		}
		chunked = chunked || h == "transfer-encoding: chunked"
	}
	bodyless := method == "HEAD" || strings.HasPrefix(m.start, "1") || m.start == "204" || m.start == "304"
	var body []byte
	switch {
	case method != "" && bodyless:
		m.framing = "none"
	case chunked:
		m.framing = "chunked"
		if body, err = io.ReadAll(httputil.NewChunkedReader(br)); err == nil {
			m.trailer, err = readFields(br)
		}
	case length >= 0:
		m.framing = "length"
		body = make([]byte, length)
		_, err = io.ReadFull(br, body)
	case method != "":
		m.framing = "close"
		body, err = io.ReadAll(br)
	default:
		m.framing = "none"
	}
	m.body = string(body)
	if m.framing == "close" { // HTTP/2 tells the end, so that HTTP/1.1 can
		m.framing = "chunked"
		m.headers = append(m.headers, "transfer-encoding: chunked")
		slices.SortStableFunc(m.headers, byName)
	}
	return m, err
}

func readLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

func readFields(br *bufio.Reader) ([]string, error) {
	var fields []string
	for {
		line, err := readLine(br)
		if err != nil {
			return nil, err
		}
		if line == "" {
			slices.SortStableFunc(fields, byName)
			return fields, nil
		}
		name, value, _ := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		if name == "trailer" { // a set, and kept as one
			names := strings.Split(value, ", ")
			slices.Sort(names)
			value = strings.Join(names, ", ")
		}
		fields = append(fields, name+": "+value)
	}
}

func byName(a, b string) int {
	na, _, _ := strings.Cut(a, ":")
	nb, _, _ := strings.Cut(b, ":")
	return strings.Compare(na, nb)
}

// rawTarget is a server that records requests and answers with given bytes.
type rawTarget struct {
	ln      net.Listener
	answers chan string
	seen    chan message
}

func newRawTarget(t *testing.T) *rawTarget {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rawTarget{ln: ln, answers: make(chan string, 1), seen: make(chan message, 1)}
	done := make(chan struct{})
	var serving sync.WaitGroup
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { r.serve(t, c) })
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done; serving.Wait() })
	return r
}

// serve answers requests of a connection, until one whose answer ends with it.
func (r *rawTarget) serve(t *testing.T, c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReader(c)
	for {
		m, err := readMessage(br, "")
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the target cannot read the request: %v", err)
			}
			return
		}
		r.seen <- m
		answer := <-r.answers
		io.WriteString(c, answer)
		if strings.Contains(answer, "\r\nConnection: close\r\n") {
			return
		}
	}
}

// exchange sends request to addr and returns what the target saw and what the
// viewer got: interim answers and the final one.
func (r *rawTarget) exchange(t *testing.T, addr, request, answer, method string) (message, []message) {
	t.Helper()
	r.answers <- answer
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.Copy(c, bytes.NewReader([]byte(request))); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReaderSize(c, 1<<16)
	var got []message
	for {
		m, err := readMessage(br, method)
		if err != nil {
			t.Fatalf("the viewer cannot read the answer: %v, after %q and %v", err, m.start, got)
		}
		got = append(got, m)
		if !strings.HasPrefix(m.start, "1") {
			break
		}
	}
	select {
	case seen := <-r.seen:
		return seen, got
	default:
		<-r.answers
		t.Fatalf("the target saw no request; the viewer got %v", got)
		return message{}, nil
	}
}
