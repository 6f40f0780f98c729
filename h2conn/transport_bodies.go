package h2conn

import (
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
)

// x/net reads as much of a request's body at a time, and makes a frame of it, as the frames
// may have that the peer takes, and has a buffer of that size for each body, however slowly
// it comes. So whatever the peer takes, the SETTINGS that come to x/net say plainBody at
// most, and [Transport.BodyBuffer] gives more to single requests. x/net's size is a private
// field. Where there is no such field, as with Go 1.27 and later without the build tag
// http2legacy, all have plainBody.
const (
	plainBody = 64 << 10
	bulkBody  = bulkQuantum

	smallestMaxFrame = 16 << 10 // RFC 9113, section 6.5.2
)

// BodyBuffer says whether the request whose header has just been sent gets a large buffer
// for its body, of 256 KiB rather than 64, as far as the peer takes such frames. That costs a
// fast upload less time. It must be called in the request's WroteHeaders hook: see
// [net/http/httptrace.ClientTrace].
func (t *Transport) BodyBuffer(large bool) {
	if !findsClientBuffers {
		return
	}
	size := uint32(plainBody)
	if large {
		size = bulkBody
	}
	size = min(size, t.conn.meter.frames.peer())
	// x/net calls that hook with its lock for writing held, and wants both for its SETTINGS.
	mu := field[sync.Mutex](t.cc, "mu")
	mu.Lock()
	defer mu.Unlock()
	*field[uint32](t.cc, "maxFrameSize") = size
}

// frameLimit has x/net not learn that the peer takes larger frames than plainBody.
type frameLimit struct {
	at      int    // in a setting, of which 6 bytes make one
	setting uint16 // its identifier, as far as that has come
	value   uint32 // as far as it has come

	largest atomic.Uint32 // frame that the peer takes; 0: it has not said
}

// peer returns how large the peer's frames may be.
func (l *frameLimit) peer() uint32 { return max(l.largest.Load(), smallestMaxFrame) }

// rewrite changes the next bytes of a SETTINGS payload.
func (l *frameLimit) rewrite(p []byte) {
	for i := range p {
		at := l.at
		l.at = (at + 1) % settingLen
		switch {
		case at < 2:
			l.setting = l.setting<<8 | uint16(p[i])
			l.value = 0
			continue
		case http2.SettingID(l.setting) != http2.SettingMaxFrameSize:
			continue
		}
		l.value = l.value<<8 | uint32(p[i])
		// A valid value has 24 bits, and plainBody is the least one of more than 16.
		switch at {
		case 3:
			if l.value > 0 && l.value < 1<<8 {
				p[i] = plainBody >> 16
			}
		case 4:
			if v := l.value >> 8; v > 0 && v < 1<<8 {
				p[i] = 0
			}
		case 5:
			if v := l.value >> 16; v > 0 && v < 1<<8 {
				p[i] = 0
			}
			l.largest.Store(l.value)
		}
	}
}
