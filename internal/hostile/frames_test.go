package hostile

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

const protocolViolation = 4004

// dead returns a stream that is over, after a request of a viewer.
func dead(f func(c *client, stream uint32)) func(*client, request) {
	return func(c *client, r request) {
		c.ok(r)
		f(c, r.stream)
	}
}

// endless begins an answer and then does f.
func endless(f func(c *client, stream uint32)) func(*client, request) {
	return func(c *client, r request) {
		c.headers(r.stream, false, ":status", "200")
		f(c, r.stream)
	}
}

// told checks that the log says in one line why the session has ended.
func told(t *testing.T, s *service) {
	if !tunneltest.Poll(patience, func() bool { return s.log.Contains("too many") }) {
		t.Errorf("the log does not say why the session has ended:\n%s", s.log)
	}
}

func flood(frame []byte) func(*client) { return func(c *client) { c.flood(frame) } }

// floods are frames without end that each are fine.
var floods = []attack{
	{name: "SETTINGS flood", run: flood(rawFrame(http2.FrameSettings, 0, 0, nil)), cut: true, code: protocolViolation, metered: true},
	{name: "large SETTINGS flood", run: flood(rawFrame(http2.FrameSettings, 0, 0, make([]byte, 2700*6))), cut: true, code: protocolViolation, metered: true},
	{name: "SETTINGS flood that moves windows", run: flood(append(
		frames(func(w *http2.Framer) { w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}) }),
		frames(func(w *http2.Framer) {
			w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		})...)),
		cut: true, code: protocolViolation, metered: true},
	{name: "PING flood", run: flood(rawFrame(http2.FramePing, 0, 0, make([]byte, 8))), cut: true, code: protocolViolation, metered: true},
	{name: "PING ack flood", run: flood(rawFrame(http2.FramePing, http2.FlagPingAck, 0, make([]byte, 8))), cut: true, code: protocolViolation, metered: true},
	{name: "GOAWAY flood", run: flood(frames(func(w *http2.Framer) { w.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) })), cut: true, code: 0},
	{name: "GOAWAY flood with a request in flight", answer: endless(func(c *client, _ uint32) {
		c.flood(frames(func(w *http2.Framer) { w.WriteGoAway(1<<31-1, http2.ErrCodeNo, make([]byte, 1000)) }))
	}), viewer: "broken", cut: true, code: 0},
	{name: "WINDOW_UPDATE flood", run: flood(frames(func(w *http2.Framer) { w.WriteWindowUpdate(0, 1) })), cut: true, code: protocolViolation, metered: true},
	{name: "WINDOW_UPDATE flood on a dead stream", answer: dead(func(c *client, s uint32) {
		c.flood(frames(func(w *http2.Framer) { w.WriteWindowUpdate(s, 1) }))
	}), viewer: "200", cut: true, code: protocolViolation, metered: true},
	{name: "WINDOW_UPDATE flood on a live stream", answer: endless(func(c *client, s uint32) {
		c.flood(frames(func(w *http2.Framer) { w.WriteWindowUpdate(s, 1) }))
	}), viewer: "broken", cut: true, code: protocolViolation, metered: true},
	{name: "PRIORITY flood", run: flood(frames(func(w *http2.Framer) { w.WritePriority(1, http2.PriorityParam{}) })), cut: true, code: protocolViolation, metered: true},
	{name: "unknown frames flood", run: flood(rawFrame(0x42, 0, 0, nil)), cut: true, code: protocolViolation, metered: true},
	{name: "large unknown frames flood", run: flood(rawFrame(0x42, 0, 1, make([]byte, 16<<10))), cut: true, code: protocolViolation, metered: true},
	{name: "RST_STREAM flood on idle streams", run: flood(frames(func(w *http2.Framer) { w.WriteRSTStream(9999, http2.ErrCodeCancel) })), cut: true, code: protocolViolation, metered: true},
	{name: "RST_STREAM flood on a dead stream", answer: dead(func(c *client, s uint32) {
		c.flood(frames(func(w *http2.Framer) { w.WriteRSTStream(s, http2.ErrCodeCancel) }))
	}), viewer: "200", cut: true, code: protocolViolation, metered: true},
	{name: "empty DATA flood on a live stream", answer: endless(func(c *client, s uint32) {
		c.flood(rawFrame(http2.FrameData, 0, s, nil))
	}), viewer: "broken", cut: true, code: protocolViolation, metered: true},
	{name: "empty DATA flood on a dead stream", answer: dead(func(c *client, s uint32) {
		c.flood(rawFrame(http2.FrameData, 0, s, nil))
	}), viewer: "200", cut: true, code: protocolViolation, metered: true},
	{name: "END_STREAM flood on a dead stream", answer: dead(func(c *client, s uint32) {
		c.flood(rawFrame(http2.FrameData, http2.FlagDataEndStream, s, nil))
	}), viewer: "200", cut: true, code: protocolViolation, metered: true},
	{name: "padding flood", answer: endless(func(c *client, s uint32) {
		c.flood(rawFrame(http2.FrameData, http2.FlagDataPadded, s, append([]byte{255}, make([]byte, 255)...)))
	}), viewer: "broken", cut: true, code: protocolViolation, metered: true},
	{name: "HEADERS flood on a dead stream", answer: dead(func(c *client, s uint32) {
		c.flood(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, s, []byte{0x88}))
	}), viewer: "200", cut: true, code: protocolViolation, metered: true},
	{name: "HEADERS flood on streams that nobody opened", run: flood(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 9999, []byte{0x88})),
		cut: true, code: protocolViolation, metered: true},
	{name: "large HEADERS flood on a dead stream", answer: dead(func(c *client, s uint32) {
		block := append([]byte{0x88, 0, 1, 'x', 0x7f, 0x80, 0x7b}, make([]byte, 127+123*128-16)...) // one long value
		c.flood(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, s, block[:15<<10]))
	}), viewer: "200", cut: true},
	{name: "CONTINUATION flood", answer: func(c *client, r request) {
		c.raw(rawFrame(http2.FrameHeaders, 0, r.stream, []byte{0x88}))
		c.flood(rawFrame(http2.FrameContinuation, 0, r.stream, nil))
	}, viewer: "502", cut: true, code: protocolViolation, metered: true},
	{name: "CONTINUATION flood with headers", answer: func(c *client, r request) {
		c.raw(rawFrame(http2.FrameHeaders, 0, r.stream, []byte{0x88}))
		c.flood(rawFrame(http2.FrameContinuation, 0, r.stream, []byte(strings.Repeat("\x00\x01a\x01b", 3000))))
	}, viewer: "502", cut: true},
	{name: "CONTINUATION flood on an idle stream", run: func(c *client) {
		c.raw(rawFrame(http2.FrameHeaders, 0, 9999, []byte{0x88}))
		c.flood(rawFrame(http2.FrameContinuation, 0, 9999, nil))
	}, cut: true, code: protocolViolation, metered: true},
	{name: "a few frames that nobody knows", run: func(c *client) {
		for i := range 200 {
			c.raw(rawFrame(http2.FrameType(0x10+i%100), 0xff, uint32(i), make([]byte, i)))
			c.raw(frames(func(w *http2.Framer) { w.WritePriority(uint32(i)|1, http2.PriorityParam{StreamDep: 1}) }))
		}
	}},
}

// violations are single frames that HTTP/2 forbids.
var violations = []attack{
	violation("DATA on stream 0", rawFrame(http2.FrameData, 0, 0, []byte("x"))),
	violation("DATA on a stream that nobody opened", rawFrame(http2.FrameData, 0, 9999, []byte("x"))),
	violation("HEADERS on stream 0", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 0, []byte{0x88})),
	violation("PUSH_PROMISE", rawFrame(http2.FramePushPromise, http2.FlagPushPromiseEndHeaders, 1, []byte{0, 0, 0, 2, 0x82})),
	violation("CONTINUATION without HEADERS", rawFrame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, []byte{0x88})),
	violation("PING between HEADERS and CONTINUATION", append(rawFrame(http2.FrameHeaders, 0, 1, []byte{0x88}), rawFrame(http2.FramePing, 0, 0, make([]byte, 8))...)),
	violation("CONTINUATION of another stream", append(rawFrame(http2.FrameHeaders, 0, 1, []byte{0x88}), rawFrame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, nil)...)),
	violation("a frame over the limit", rawFrame(http2.FrameData, 0, 1, make([]byte, 256<<10+1))),
	violation("an unknown frame over the limit", rawFrame(0x42, 0, 1, make([]byte, 256<<10+1))),
	violation("the longest frame announced", []byte{0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1}),
	violation("PING of seven bytes", rawFrame(http2.FramePing, 0, 0, make([]byte, 7))),
	violation("PING on a stream", rawFrame(http2.FramePing, 0, 1, make([]byte, 8))),
	violation("SETTINGS of five bytes", rawFrame(http2.FrameSettings, 0, 0, make([]byte, 5))),
	violation("SETTINGS on a stream", rawFrame(http2.FrameSettings, 0, 1, nil)),
	violation("SETTINGS ack that nobody waits for", rawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil), rawFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)),
	violation("RST_STREAM on stream 0", rawFrame(http2.FrameRSTStream, 0, 0, make([]byte, 4))),
	violation("RST_STREAM of three bytes", rawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3))),
	violation("GOAWAY on a stream", rawFrame(http2.FrameGoAway, 0, 1, make([]byte, 8))),
	violation("WINDOW_UPDATE of nothing", rawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))),
	violation("WINDOW_UPDATE that overflows", rawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff}), rawFrame(http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})),
	violation("an HPACK index that is not there", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 9999, []byte{0xff, 0xff, 0x7f})),
	violation("an HPACK table that is too large", rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 9999, []byte{0x3f, 0xff, 0xff, 0x7f})),
	violation("later MAX_FRAME_SIZE of 0", setting(http2.SettingMaxFrameSize, 0)),
	violation("later MAX_FRAME_SIZE of 16 MiB", setting(http2.SettingMaxFrameSize, 1<<24)),
	violation("later INITIAL_WINDOW_SIZE of 2 GiB", setting(http2.SettingInitialWindowSize, 1<<31)),
	violation("later ENABLE_PUSH of 2", setting(http2.SettingEnablePush, 2)),
	violation("garbage", []byte(strings.Repeat("\xa5\x5a\x00\xff", 100))),
}

func setting(id http2.SettingID, v uint32) []byte {
	return frames(func(w *http2.Framer) { w.WriteSettings(http2.Setting{ID: id, Val: v}) })
}

func violation(name string, parts ...[]byte) attack {
	return attack{name: name, cut: true, code: protocolViolation, run: func(c *client) {
		for _, p := range parts {
			c.raw(p)
		}
	}}
}

// beginnings are what comes in the place of a first SETTINGS frame and the
// answer to the first ping.
var beginnings = []attack{
	{name: "no streams", settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, hidden: true, code: protocolViolation},
	{name: "too few streams", settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 15}}, hidden: true, code: protocolViolation},
	{name: "frames of no size", settings: []http2.Setting{{ID: http2.SettingMaxFrameSize, Val: 0}}, hidden: true, code: protocolViolation},
	{name: "frames of 4 GiB", settings: []http2.Setting{{ID: http2.SettingMaxFrameSize, Val: 1<<32 - 1}}, hidden: true, code: protocolViolation},
	{name: "windows of 4 GiB", settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<32 - 1}}, hidden: true, code: protocolViolation},
	{name: "first PING, then SETTINGS", begin: func(c *client) { c.raw(rawFrame(http2.FramePing, 0, 0, make([]byte, 8))) }, hidden: true, code: protocolViolation},
	{name: "a first frame that nobody knows", begin: func(c *client) { c.raw(rawFrame(0x42, 0, 0, nil)) }, hidden: true, code: protocolViolation},
	{name: "a viewer's preface", begin: func(c *client) { c.raw([]byte(http2.ClientPreface)) }, hidden: true, code: protocolViolation},
	{name: "HTTP/1.1 in the websocket", begin: func(c *client) { c.raw([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) }, hidden: true, code: protocolViolation},
	{name: "it takes the service's settings and sends none", begin: func(*client) {}, hidden: true, code: protocolViolation},
	{name: "it goes before it comes", begin: func(c *client) { c.ws(opClose, []byte{3, 232}) }, hidden: true},
	// Those have the 5 s for the first ping and some for the close handshake.
	{name: "silence", quiet: true, begin: func(*client) {}, hidden: true, within: 12 * time.Second},
	{name: "no answer to the first ping", quiet: true, hidden: true, within: 12 * time.Second},
	{name: "a wrong answer to the first ping", quiet: true, begin: func(c *client) {
		c.h2(func(w *http2.Framer) { w.WriteSettings(); w.WritePing(true, [8]byte{1}) })
	}, hidden: true, within: 12 * time.Second},

	// Nothing that a service would have to refuse: whose requests fit are served.
	{name: "the largest header table", settings: []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 1<<32 - 1}}, viewer: "200"},
	{name: "no header table", settings: []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 0}}, viewer: "200"},
	{name: "settings that nobody knows", settings: []http2.Setting{{ID: 0x99, Val: 7}, {ID: 0xffff, Val: 1 << 31}}, viewer: "200"},
	{name: "no room for headers", settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 10}}, viewer: "431", deaf: true},
}

// laters are what a client does to a session that has been fine.
var laters = []attack{
	{name: "WINDOW_UPDATE that overflows a stream", answer: endless(func(c *client, s uint32) {
		for range 2 {
			c.h2(func(w *http2.Framer) { w.WriteWindowUpdate(s, 1<<31-1) })
		}
	}), viewer: "broken"},
	{name: "GOAWAY that refuses what is in flight", answer: func(c *client, _ request) {
		c.h2(func(w *http2.Framer) { w.WriteGoAway(0, http2.ErrCodeNo, nil) })
	}, viewer: "502", cut: true, within: leaving + cutBound()},
	{name: "GOAWAY for no reason", run: func(c *client) {
		c.h2(func(w *http2.Framer) { w.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("calm")) })
	}, viewer: "200|404|502|503", cut: true, within: leaving + cutBound()},
	{name: "RST_STREAM with PROTOCOL_ERROR", answer: func(c *client, r request) {
		c.h2(func(w *http2.Framer) { w.WriteRSTStream(r.stream, http2.ErrCodeProtocol) })
	}, viewer: "502"},
	{name: "HEADERS with more padding than frame", run: func(c *client) {
		c.raw(rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersPadded, 9999, []byte{200, 0x88}))
	}},
	{name: "an endless answer that drips", answer: endless(func(c *client, s uint32) {
		for range 20 {
			c.data(s, false, "x")
			<-time.After(10 * time.Millisecond)
		}
		c.h2(func(w *http2.Framer) { w.WriteRSTStream(s, http2.ErrCodeCancel) })
	}), viewer: "broken"},
	{name: "HEADERS that drip", answer: func(c *client, r request) {
		b := rawFrame(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, r.stream, []byte{0x88})
		for i := range b {
			c.raw(b[i : i+1])
			<-time.After(10 * time.Millisecond)
		}
	}, viewer: "200"},
}
