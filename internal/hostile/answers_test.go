package hostile

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// header answers with a header, and an empty body.
func header(kv ...string) func(*client, request) {
	return func(c *client, r request) { c.headers(r.stream, true, kv...) }
}

// status is an answer with a status that is none.
func status(s string) attack {
	return attack{name: "status " + s, answer: header(":status", s), viewer: "502"}
}

// bodied answers with a header and a body.
func bodied(body string, kv ...string) func(*client, request) {
	return func(c *client, r request) {
		c.headers(r.stream, false, kv...)
		c.data(r.stream, true, body)
	}
}

// trailed answers properly and with trailers.
func trailed(kv ...string) func(*client, request) {
	return func(c *client, r request) {
		c.headers(r.stream, false, ":status", "200", "trailer", "x-good")
		c.data(r.stream, false, "ok")
		c.headers(r.stream, true, kv...)
	}
}

// without checks that no header or trailer of these names came.
func without(names ...string) func(*testing.T, outcome) {
	return func(t *testing.T, o outcome) {
		t.Helper()
		for _, n := range names {
			if o.header.Get(n) != "" || o.trailer.Get(n) != "" {
				t.Errorf("the viewer got %s: %q %q", n, o.header.Values(n), o.trailer.Values(n))
			}
		}
	}
}

func upload(size int) func(*service) outcome {
	return func(s *service) outcome {
		return s.ask(http.MethodPost, "/"+attackerID+"/", bytes.NewReader(make([]byte, size)))
	}
}

// answers are to single requests. However bad they are, the tunnel serves the
// next: what is at fault may be the target.
var answers = []attack{
	{name: "endless 1xx", answer: func(c *client, r request) {
		for range 3000 {
			c.headers(r.stream, false, ":status", "103", "link", "</x>")
		}
	}, viewer: "502"},
	{name: "huge 1xx", answer: func(c *client, r request) {
		for range 200 {
			c.headers(r.stream, false, ":status", "103", "x-big", strings.Repeat("x", 10<<10))
		}
	}, viewer: "502"},
	{name: "1xx flood", answer: func(c *client, r request) {
		c.mu.Lock()
		block := c.encode(":status", "103", "!x", "y")
		c.mu.Unlock()
		c.flood(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.stream, block))
	}, viewer: "502", cut: true, code: protocolViolation},
	{name: "1xx that ends the stream", answer: header(":status", "103"), viewer: "502"},
	{name: "1xx with headers of the connection", answer: func(c *client, r request) {
		c.headers(r.stream, false, ":status", "103", "connection", "close", "transfer-encoding", "chunked", "content-length", "7")
		c.ok(r)
	}, viewer: "200|502"},
	{name: "status 101, and then an answer", answer: func(c *client, r request) {
		c.headers(r.stream, false, ":status", "101", "connection", "upgrade", "upgrade", "websocket")
		c.ok(r)
	}, viewer: "502"},
	{name: "status 101 alone, and then an answer", answer: func(c *client, r request) {
		c.headers(r.stream, false, ":status", "101")
		c.ok(r)
	}, viewer: "502"},
	status("101"), status("099"), status("1000"), status("-5"), status("+200"), status("0200"), status("2e2"), status("abc"), status(""), status("20 0"), status("600"), status("777"),
	{name: "no status", answer: header("x", "y"), viewer: "502"},
	{name: "two statuses", answer: header(":status", "200", ":status", "404"), viewer: "502"},
	{name: "a status after other headers", answer: header("x", "y", ":status", "200"), viewer: "502"},
	{name: "a request's pseudo-header", answer: header(":status", "200", ":path", "/x"), viewer: "502"},
	{name: "two lengths", answer: bodied("hello", ":status", "200", "content-length", "5", "content-length", "4"), viewer: "200|502", check: noFalseLength},
	{name: "a list of lengths", answer: bodied("hello", ":status", "200", "content-length", "5, 5"), viewer: "200|502", check: noFalseLength},
	{name: "a negative length", answer: bodied("hello", ":status", "200", "content-length", "-5"), viewer: "200|502", check: noFalseLength},
	{name: "a length with a sign", answer: bodied("hello", ":status", "200", "content-length", "+5"), viewer: "200|502", check: noFalseLength},
	{name: "a length of 2^64", answer: bodied("hello", ":status", "200", "content-length", "18446744073709551616"), viewer: "200|502", check: noFalseLength},
	{name: "a length above the body's", answer: bodied("hello", ":status", "200", "content-length", "50"), viewer: "broken"},
	{name: "a length below the body's", answer: bodied("hello, viewer", ":status", "200", "content-length", "5"), viewer: "200|broken", check: func(t *testing.T, o outcome) {
		if len(o.body) > 5 {
			t.Errorf("the viewer got %q", o.body)
		}
	}},
	{name: "204 with a body", answer: bodied("hello", ":status", "204"), viewer: "204"},
	{name: "304 with a length", answer: header(":status", "304", "content-length", "99"), viewer: "304"},
	{name: "trailers that are headers", answer: trailed("content-length", "99", "transfer-encoding", "chunked", "host", "evil", "set-cookie", "a=b", "location", "/",
		"connection", "close", "clear-site-data", "*", "alt-svc", "x", "nel", "x", "origin-agent-cluster", "?1", "public-key-pins", "x", "report-to", "x", "reporting-endpoints", "x",
		"service-worker-allowed", "/", "strict-transport-security", "max-age=1", "x-websocktunnel-error", "x", "x-good", "y"), viewer: "200|broken",
		check: without("Content-Length", "Transfer-Encoding", "Host", "Set-Cookie", "Location", "Connection", "Clear-Site-Data", "Alt-Svc", "Nel", "Origin-Agent-Cluster", "Public-Key-Pins",
			"Report-To", "Reporting-Endpoints", "Service-Worker-Allowed", "Strict-Transport-Security", "X-Websocktunnel-Error")},
	{name: "a pseudo-header in the trailers", answer: trailed(":status", "500"), viewer: "broken", cut: true, code: protocolViolation},
	{name: "trailers that end nothing", answer: func(c *client, r request) {
		c.headers(r.stream, false, ":status", "200")
		c.headers(r.stream, false, "x", "y")
	}, viewer: "broken", cut: true, code: protocolViolation},
	{name: "trailers over the limit", answer: func(c *client, r request) {
		c.headers(r.stream, false, ":status", "200")
		c.headers(r.stream, true, manyHeaders(300<<10)...)
	}, viewer: "broken", cut: true},
	{name: "headers over the limit", answer: func(c *client, r request) {
		c.headers(r.stream, true, append([]string{":status", "200"}, manyHeaders(300<<10)...)...)
	}, viewer: "502", cut: true},
	{name: "headers a little over the limit", answer: func(c *client, r request) {
		c.headers(r.stream, true, append([]string{":status", "200"}, manyHeaders(262_500)...)...)
	}, viewer: "502"},
	{name: "one header over the limit", answer: header(":status", "200", "!x", strings.Repeat("~", 300<<10)), viewer: "502", cut: true, code: protocolViolation},
	{name: "an HPACK bomb", answer: func(c *client, r request) {
		c.mu.Lock()
		block := c.encode(":status", "200", "x", strings.Repeat("~", 4000))
		c.mu.Unlock()
		c.headerBlock(r.stream, true, append(block, bytes.Repeat([]byte{0xbe}, 15<<10)...)) // 60 MB
	}, viewer: "502", cut: true, code: protocolViolation},
	{name: "a name in capitals", answer: header(":status", "200", "X-Y", "z"), viewer: "502"},
	{name: "a name with a space", answer: header(":status", "200", "x y", "z"), viewer: "502"},
	{name: "a value with a line break", answer: header(":status", "200", "x", "y\r\nset-cookie: z"), viewer: "502"},
	{name: "a value with a NUL", answer: header(":status", "200", "x", "y\x00"), viewer: "502"},
	{name: "headers of the connection", answer: bodied("ok", ":status", "200", "connection", "close", "keep-alive", "1", "proxy-connection", "close", "transfer-encoding", "chunked",
		"upgrade", "h2c"), viewer: "200|502", check: without("Keep-Alive", "Proxy-Connection", "Upgrade")},
	{name: "private headers", answer: bodied("ok", ":status", "200", "x-websocktunnel-upgrade", "websocket", "x-websocktunnel-secret", "1"), viewer: "200",
		check: without("X-Websocktunnel-Upgrade", "X-Websocktunnel-Secret")},
	{name: "a failure of its own making", answer: header(":status", "200", "x-websocktunnel-error", "<script>"), viewer: "502", check: func(t *testing.T, o outcome) {
		if p := o.header.Get("Proxy-Status"); !strings.HasPrefix(p, `websocktunnel-client; error=proxy_internal_response; details="WT-TARGET-NO-ANSWER`) || strings.Contains(o.body, "script") {
			t.Errorf("the viewer got %q, %q", p, o.body)
		}
	}},
	{name: "a body that is no gzip", answer: bodied("no gzip", ":status", "200", "content-encoding", "gzip"), viewer: "200", check: func(t *testing.T, o outcome) {
		if o.body != "no gzip" { // neither inflated nor looked at
			t.Errorf("the viewer got %q", o.body)
		}
	}},
	{name: "DATA before HEADERS", answer: func(c *client, r request) { c.data(r.stream, false, "x"); c.ok(r) }, viewer: "502"},
	{name: "DATA after END_STREAM", answer: func(c *client, r request) { c.ok(r); c.data(r.stream, true, "more") }, viewer: "200|broken"},
	{name: "HEADERS after END_STREAM", answer: func(c *client, r request) { c.ok(r); c.ok(r) }, viewer: "200|broken"},
	{name: "DATA for a HEAD", ask: func(s *service) outcome { return s.ask(http.MethodHead, "/"+attackerID+"/", nil) }, answer: bodied("body", ":status", "200"), viewer: "200|502"},
	{name: "RST_STREAM in the middle", answer: func(c *client, r request) {
		c.headers(r.stream, false, ":status", "200", "content-length", "100")
		c.data(r.stream, false, "x")
		c.h2(func(w *http2.Framer) { w.WriteRSTStream(r.stream, http2.ErrCodeNo) })
	}, viewer: "broken"},
	{name: "RST_STREAM for an answer", answer: func(c *client, r request) {
		c.h2(func(w *http2.Framer) { w.WriteRSTStream(r.stream, http2.ErrCodeCancel) })
	}, viewer: "502"},
	{name: "no window for an upload", config: server.Config{StallTimeout: 300 * time.Millisecond}, settings: []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: 100}, {ID: http2.SettingInitialWindowSize, Val: 0},
	}, ask: upload(1 << 20), answer: func(*client, request) {}, viewer: "502"},
	{name: "a window of one byte", config: server.Config{StallTimeout: 300 * time.Millisecond}, settings: []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: 100}, {ID: http2.SettingInitialWindowSize, Val: 1},
	}, ask: upload(1 << 20), answer: func(*client, request) {}, viewer: "502"},
	{name: "a window that becomes negative", config: server.Config{StallTimeout: 300 * time.Millisecond},
		ask: upload(1 << 20), answer: func(c *client, _ request) { c.raw(setting(http2.SettingInitialWindowSize, 0)) }, viewer: "502"},
	{name: "it never reads", config: withWriteTimeout(time.Second), settings: []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: 100}, {ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1},
	}, ask: upload(64 << 20), answer: func(c *client, _ request) {
		c.deaf.Store(true)
		c.h2(func(w *http2.Framer) { w.WriteWindowUpdate(0, 1<<30) })
	}, viewer: "502", deaf: true, after: gone},
	{name: "it sends and never reads", config: withWriteTimeout(time.Second), run: func(c *client) {
		c.deaf.Store(true)
		ping := repeat(rawFrame(http2.FramePing, 0, 0, make([]byte, 8)))
		for c.raw(ping[:17*100]) == nil { // slower than a flood
			<-time.After(250 * time.Millisecond)
		}
	}, ask: upload(64 << 20), answer: func(*client, request) {}, viewer: "502", deaf: true, after: gone},
}

// gone checks that the session ends soon.
func gone(t *testing.T, s *service) {
	if !tunneltest.Poll(patience, func() bool { _, ok := s.Tunnel(attackerID); return !ok }) {
		t.Error("the session is still there")
	}
}

// noFalseLength checks that the viewer was told no length but the body's. (x/net
// drops a Content-Length that is none before anybody could object.)
func noFalseLength(t *testing.T, o outcome) {
	if l := o.header.Values("Content-Length"); o.status == http.StatusOK && (len(l) > 1 || len(l) == 1 && l[0] != "5") {
		t.Errorf("the viewer got lengths %q", l)
	}
}

// withWriteTimeout is a config with another limit for peers that read nothing.
func withWriteTimeout(d time.Duration) server.Config {
	return server.Config{WriteTimeout: d}
}

// manyHeaders are so many small ones that they make size bytes of a list.
func manyHeaders(size int) []string {
	var kv []string
	for n := 0; n < size; n += 1000 + 1 + 32 {
		kv = append(kv, "!x", strings.Repeat("y", 1000))
	}
	return kv
}
