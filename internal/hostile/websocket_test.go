package hostile

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

func wire(name string, b ...byte) attack {
	return attack{name: name, cut: true, run: func(c *client) { c.wire(b) }}
}

func wireFlood(name string, code int, frames ...[]byte) attack {
	return attack{name: name, cut: true, code: code, metered: code != 0, run: func(c *client) { c.floodWire(repeat(bytes.Join(frames, nil))) }}
}

// inMessages answers with a body of n bytes, in websocket messages of size bytes.
func inMessages(size, n int) func(c *client, r request) {
	return func(c *client, r request) {
		b := append(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.stream, []byte{0x88}),
			rawFrame(http2.FrameData, http2.FlagDataEndStream, r.stream, make([]byte, n))...)
		var all []byte
		for len(b) > 0 {
			k := min(size, len(b))
			all = append(all, wsFrame(final|opBinary, b[:k])...)
			b = b[k:]
		}
		c.wire(all)
	}
}

// websockets are what happens below HTTP/2.
var websockets = []attack{
	wire("an unmasked frame", 0x82, 0x01, 'x'),
	wire("a compressed frame", 0xc2, 0x81, 0, 0, 0, 0, 'x'),
	wire("a reserved bit", 0xa2, 0x81, 0, 0, 0, 0, 'x'),
	wire("a reserved opcode", 0x83, 0x81, 0, 0, 0, 0, 'x'),
	wire("a reserved control opcode", 0x8b, 0x80, 0, 0, 0, 0),
	wire("a ping in pieces", 0x09, 0x81, 0, 0, 0, 0, 'x'),
	wire("a ping of 126 bytes", append([]byte{0x89, 0xfe, 0, 126, 0, 0, 0, 0}, make([]byte, 126)...)...),
	wire("a ping of 2^63 bytes", 0x89, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0),
	wire("a frame of negative length", 0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 'x'),
	wire("a continuation of nothing", 0x80, 0x81, 0, 0, 0, 0, 'x'),
	wire("a message within a message", 0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0),
	wire("a close frame of one byte", 0x88, 0x81, 0, 0, 0, 0, 3),
	wire("a close frame with a code that is none", 0x88, 0x82, 0, 0, 0, 0, 3, 237),
	wire("a close frame with code 1000", 0x88, 0x82, 0, 0, 0, 0, 3, 232),
	{name: "the network ends", run: func(c *client) { c.nc.Close() }, cut: true},
	wireFlood("empty messages", protocolViolation, wsFrame(final|opBinary, nil)),
	wireFlood("empty continuations", protocolViolation, wsFrame(opMore, nil)).beginning(wsFrame(opBinary, nil)),
	wireFlood("empty continuations of a control message", protocolViolation, wsFrame(opMore, nil)).beginning(wsFrame(opText, []byte("{"))),
	wireFlood("websocket pings", protocolViolation, wsFrame(final|opPing, nil)),
	wireFlood("large websocket pings", protocolViolation, wsFrame(final|opPing, make([]byte, 125))),
	wireFlood("websocket pongs", protocolViolation, wsFrame(final|opPong, []byte("x"))),
	wireFlood("pings within a message", protocolViolation, wsFrame(final|opPing, nil)).beginning(wsFrame(opBinary, nil)),
	{name: "two hundred pings a second", run: func(c *client) {
		for c.ws(opPing, nil) == nil {
			<-time.After(5 * time.Millisecond)
		}
	}, cut: true, code: protocolViolation},
	{name: "a few pings", run: func(c *client) {
		for range 30 {
			c.ws(opPing, []byte("hello"))
		}
	}},
	{name: "HTTP/2 in messages of one byte", answer: inMessages(1, 10_000), viewer: "200"},
	{name: "HTTP/2 in too many messages of one byte", answer: inMessages(1, 50_000), viewer: "broken", cut: true, code: protocolViolation, metered: true},
	{name: "HTTP/2 in messages of two bytes", answer: inMessages(2, 20_000), viewer: "200"},
	{name: "one message without an end", answer: func(c *client, r request) {
		c.wire(wsFrame(opBinary, rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, r.stream, []byte{0x88})))
		c.wire(wsFrame(opMore, rawFrame(http2.FrameData, http2.FlagDataEndStream, r.stream, make([]byte, 60_000))))
	}, viewer: "200", deaf: true},
}

// beginning sends b before the rest of the attack.
func (a attack) beginning(b []byte) attack {
	run := a.run
	a.run = func(c *client) {
		c.wire(b)
		run(c)
	}
	return a
}

func text(name, s string) attack {
	return attack{name: name, run: func(c *client) { c.text(s) }, cut: true, code: protocolViolation}
}

func texts(name, s string) attack {
	return wireFlood(name, protocolViolation, wsFrame(final|opText, []byte(s)))
}

// controls are control messages.
var controls = []attack{
	text("a control message that is no JSON", "hello"),
	text("an empty control message", ""),
	text("a control message that is no object", "[1,2,3]"),
	text("a control message without a type", "{}"),
	text("a control message whose type is a number", `{"type":7}`),
	text("a control message that is no UTF-8", "{\"type\":\"\xff\xfe\""),
	text("a token that is a number", `{"type":"token","token":7}`),
	text("a control message over 16 KiB", `{"type":"x","y":"`+strings.Repeat("y", 16<<10)+`"}`),
	text("a deep control message", strings.Repeat(`{"type":`, 2000)),
	{name: "a control message without an end", run: func(c *client) {
		c.wire(wsFrame(opText, []byte(`{"type":"x","y":"`)))
		c.floodWire(repeat(wsFrame(opMore, []byte("yyyyyyyyyyyyyyyy"))))
	}, cut: true, code: protocolViolation},
	texts("control messages of a type that nobody knows", `{"type":"x"}`),
	texts("large control messages", `{"type":"x","y":"`+strings.Repeat("y", 16000)+`"}`),
	texts("tokens that are refused", `{"type":"token","token":"x"}`),
	texts("upgrade_end for what is not there", `{"type":"upgrade_end","upgrade":"7","bytes":0}`),
	texts("goaways", `{"type":"goaway"}`).ends(0), // the session has ended before it is too much
	{name: "tokens that are refused, slowly", run: func(c *client) {
		for c.text(`{"type":"token","token":"x"}`) == nil {
			<-time.After(20 * time.Millisecond)
		}
	}, cut: true, code: protocolViolation},
	{name: "fresh tokens without end", run: func(c *client) {
		token := tunneltest.Token(tb{}, attackerID)
		c.floodWire(wsFrame(final|opText, fmt.Appendf(nil, `{"type":"token","token":"%s"}`, token)))
	}, cut: true, code: protocolViolation},
	{name: "odd upgrade_ends", run: func(c *client) {
		for _, s := range []string{
			`{"type":"upgrade_end"}`, `{"type":"upgrade_end","upgrade":"1","bytes":-1}`,
			`{"type":"upgrade_end","upgrade":"1","bytes":9223372036854775807}`, `{"type":"upgrade_end","upgrade":"","bytes":0}`,
		} {
			c.text(s)
		}
	}},
	{name: "goaway with a huge delay", run: func(c *client) { c.text(`{"type":"goaway","reconnect_after_ms":9223372036854775807}`) }, cut: true, code: 4002},
}

func (a attack) ends(code int) attack { a.code, a.metered = code, code != 0; return a }

// tb fails by panicking: for what cannot fail.
type tb struct{ testing.TB }

func (tb) Helper() {}

// websocketRequest is a viewer's handshake.
func websocketRequest(s *service) outcome {
	return s.ask(http.MethodGet, "/"+attackerID+"/", nil, "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

func upgrade(name, viewer string, answer func(c *client, r request)) []attack {
	return []attack{
		{name: name + " (fallback)", ask: websocketRequest, answer: answer, viewer: viewer},
		{name: name + " (extended CONNECT)", ask: websocketRequest, answer: answer, viewer: viewer, settings: []http2.Setting{
			{ID: http2.SettingMaxConcurrentStreams, Val: 100}, {ID: http2.SettingEnableConnectProtocol, Val: 1},
		}},
	}
}

// upgrades are answers to viewers' handshakes.
var upgrades = join(
	upgrade("status 101 for an upgrade", "502", header(":status", "101")),
	upgrade("a refusal with a status that is none", "502|200|501", header(":status", "501", "x-websocktunnel-upgrade-refused", "abc")),
	upgrade("a refusal with status 101", "502|501", header(":status", "501", "x-websocktunnel-upgrade-refused", "101")),
	upgrade("a protocol that nobody offered", "502|101", header(":status", "200", "x-websocktunnel-upgrade", "evil")),
	upgrade("a protocol with a line break", "502", header(":status", "200", "x-websocktunnel-upgrade", "websocket\r\nset-cookie: a=b")),
	upgrade("an upgrade that ends at once", "101|200", header(":status", "200", "x-websocktunnel-upgrade", "websocket")),
	upgrade("an upgrade refused with 404", "404", header(":status", "404")),
	checking(without("X-Websocktunnel-Upgrade", "X-Websocktunnel-Secret", "Clear-Site-Data"),
		upgrade("an upgrade with private headers", "101|200", header(":status", "200", "x-websocktunnel-upgrade", "websocket", "x-websocktunnel-secret", "1", "clear-site-data", "*"))),
	upgrade("an upgrade cut short by upgrade_end", "101", func(c *client, r request) {
		c.headers(r.stream, false, ":status", "200", "x-websocktunnel-upgrade", "websocket")
		c.text(`{"type":"upgrade_end","upgrade":"1","bytes":2}`)
		c.data(r.stream, false, "hello")
	}),
)

// checking adds a check to rows.
func checking(check func(*testing.T, outcome), rows []attack) []attack {
	for i := range rows {
		rows[i].check = check
	}
	return rows
}

func join(groups ...[]attack) (all []attack) {
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}
