package h2conn

import (
	"encoding/binary"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// The glitch budget of one connection. A glitch is a frame that carries nothing
// for anybody: pings, settings, window updates, empty DATA, frames for streams
// that are not there. Each costs this end some work, acks and wake-ups among
// it, and x/net's Transport counts none of them.
//
// Almost everything of that kind is an answer to what this end has sent: window
// updates to DATA, acks to pings, headers and resets to requests. So the peer
// earns its glitches by the frames that are sent to it, and besides gets some
// with time. The window updates for an upload in however small pieces are
// earned; a flood has to live on glitchBurst and glitchRate.
const (
	glitchBurst = 10_000 // at most that many in a row that are not earned
	glitchRate  = 200    // per second

	// maxGlitches bounds what may be earned and not spent: what fills all
	// windows of a connection is answered by two window updates for 4 KiB, all
	// of which may come at once.
	maxGlitches = glitchBurst + 2*askingConnWindow/(4<<10)

	// What frames cost. heavy ones make this end write, or walk its streams.
	lightGlitch = 1
	heavyGlitch = 5

	// What frames earn. x/net's Server sends two window updates for 4 KiB of an
	// upload; other implementations may send two for each piece.
	requestGlitch    = 100 // for the headers, interim answers and trailers of an exchange
	dataGlitch       = 4
	dataBytesPerUnit = 1024

	// DATA for a stream that is over costs by its size too: it is read, counted
	// and given back for nothing. A reset earns this and what may have been on
	// its way then, which is the stream's window.
	lateBytesPerCost = 4096
	resetGlitch      = 256

	// alignPadding is how many bytes of padding DATA may have however short it
	// is: some libraries pad each frame to a multiple of 8 bytes. A frame with
	// more padding than that, and than data, is a glitch.
	alignPadding = 8

	// A control message costs this and one more for each 64 bytes.
	controlGlitch       = 10
	controlBytesPerCost = 64
)

// resetLen is the length of what RST_STREAM carries, an error code.
const resetLen = 4

// meter reads the frame headers in what the peer sends and keeps its glitch
// budget. At the asking end it also takes frames out of the stream that a
// client has no use for, PRIORITY and those of unknown types: x/net logs one
// line for each. Those that break a rule stay. And it changes resets, see soften, and
// settings, see frameLimit. All methods but sent belong to the goroutine that reads.
type meter struct {
	drops    bool // the asking end's
	requests bool // HEADERS are requests, which earn: the answering end's
	maxFrame int  // longer ones are for x/net to refuse
	now      func() time.Time

	skip     int                  // bytes of the connection preface still to come
	header   [frameHeaderLen]byte // of a frame, as far as it has come
	have     int                  // bytes of header
	left     int                  // bytes of the payload still to come
	kind     http2.FrameType      // of the frame that the payload belongs to
	dropping bool                 // this payload goes nowhere
	into     *inlet               // where this payload goes; nil: to x/net, as all else
	past     bool                 // some payload has gone past x/net, which knows the connection's window no more
	refused  int                  // of this payload, what into has not taken
	padded   bool                 // the payload still to come begins with its padding's length, which is to be looked at
	first    bool                 // the first frame has come: it must be SETTINGS
	block    bool                 // a header block is not over: it must be CONTINUATION
	headers  bool                 // one has ended, or its last frame has begun; reset by who looks
	reset    bool                 // this payload is the error code of a stream's reset
	code     uint32               // of it, as far as it has come
	settings bool                 // this payload is settings, for a client
	frames   frameLimit           // of them

	// x/net's server pings a peer of which it sees no frame for a while, and behind a slow
	// upload the answer may come too late. So of what goes past it, it is shown an empty
	// frame now and then, of a type that it ignores.
	lastRead *atomic.Int64 // when something has come last
	shown    int64         // lastRead when x/net has been shown a frame
	shows    int64         // how much later it is shown the next; 0: it is shown none

	giveBack func(n int) // returns bytes of the connection's window; called where into has a reader that has left

	goneAway func() // called at each GOAWAY, before x/net sees it; nil: nothing is

	fault string // what the peer has done wrong, if filter has failed

	out      sentFrames
	streams  openStreams
	inflow   inflow
	arrivals *arrivals // nil: all streams are one peer's
	trailers unreadTrailers
	pings    pingClock

	burst  int64 // what budget is at the start, and grows to with time
	budget int64
	last   time.Time    // when time was last counted
	earned atomic.Int64 // not yet in budget
}

// sentFrames follows the frames in what this end sends. It belongs to the goroutine
// that writes, with http2Conn.outMu held, under which others add to due and owed.
type sentFrames struct {
	skip   int // bytes of the connection preface still to come
	header [frameHeaderLen]byte
	have   int
	left   int
	block  bool // a header block is not over: only its CONTINUATION may follow

	update [4]byte // payload of a WINDOW_UPDATE, as far as it has come
	got    int     // bytes of update

	setting uint16 // the identifier in SETTINGS, as far as it has come
	settle  bool   // our SETTINGS have to be changed, and have not gone out whole
	due     []byte // WINDOW_UPDATEs of our own, to be sent at the next end of a frame

	waits bool  // the WINDOW_UPDATEs in what is being sent go nowhere; due has what the peer is to be told
	owed  int64 // of the connection's window: what the peer has not been told of
}

// betweenFrames reports whether what has been sent ends with a whole frame behind which
// any other may follow.
func (s *sentFrames) betweenFrames() bool {
	return s.skip == 0 && s.left == 0 && s.have == 0 && !s.block
}

// newMeter returns one for a peer that sends preface bytes before its first
// frame, and none of more than maxFrame bytes.
func newMeter(preface, maxFrame int, asking bool) *meter {
	m := &meter{drops: asking, requests: !asking, maxFrame: maxFrame, now: time.Now, skip: preface, burst: glitchBurst, budget: glitchBurst, last: time.Now()}
	if asking {
		m.out.skip = len(http2.ClientPreface)
	}
	return m
}

// grows lets the windows of streams grow within w.
func (m *meter) grows(w streamWindows) {
	m.streams.windows = w
	m.out.settle = w.first > 0
}

// sent says that p is being sent to the peer. It changes p, if out.settle.
func (m *meter) sent(p []byte) {
	s := &m.out
	for len(p) > 0 {
		if pass := min(s.skip+s.left, len(p)); pass > 0 { // one of them is zero
			if s.left > 0 {
				m.sentPayload(p[:pass])
			}
			s.skip, s.left = max(s.skip-pass, 0), max(s.left-pass, 0)
			p = p[pass:]
			continue
		}
		k := copy(s.header[s.have:], p)
		p = p[k:]
		if s.have += k; s.have < frameHeaderLen {
			return
		}
		s.have, s.got = 0, 0
		s.left = frameLength(s.header[:])
		kind, flags := http2.FrameType(s.header[3]), http2.Flags(s.header[4])
		switch kind {
		case http2.FrameHeaders, http2.FramePushPromise, http2.FrameContinuation:
			s.block = flags&http2.FlagHeadersEndHeaders == 0 // the same in all of them
		}
		if (kind == http2.FrameSettings || kind == http2.FramePing) && flags&http2.FlagPingAck == 0 {
			m.streams.timed(kind, false, m.now())
		}
		m.pings.sent(kind, flags)
		stream := streamOf(s.header[:])
		window := m.streams.sent(kind, stream, !m.requests)
		switch {
		case m.requests && ends(kind, flags):
			m.trailers.read(stream)
			m.arrivals.end(stream)
		case kind == http2.FrameRSTStream:
			m.arrivals.end(stream)
		case kind == http2.FrameHeaders && !m.requests:
			m.arrivals.begin(stream)
		}
		m.earned.Add(m.earns(kind, flags, s.left, window))
	}
}

// sentPayload looks at the next bytes of a payload.
func (m *meter) sentPayload(p []byte) {
	s := &m.out
	switch http2.FrameType(s.header[3]) {
	case http2.FrameWindowUpdate:
		if s.got += copy(s.update[s.got:], p); s.got < len(s.update) {
			return
		}
		n := int64(binary.BigEndian.Uint32(s.update[:]) & (1<<31 - 1))
		stream := streamOf(s.header[:])
		if stream == 0 {
			m.inflow.granted(n)
			if !s.waits {
				return
			}
			if s.owed += n; s.owed >= m.streams.windows.lag {
				s.due = appendWindowUpdate(s.due, stream, s.owed)
				s.owed = 0
			}
		} else if more := m.streams.granted(stream, n, m.inflow.held(), s.waits, !m.arrivals.full(stream), m.now); more > 0 {
			s.due = appendWindowUpdate(s.due, stream, more)
		}
	case http2.FrameSettings:
		if s.settle {
			s.rewriteSetting(p, frameLength(s.header[:])-s.left, uint32(m.streams.windows.first))
			s.settle = s.left > len(p)
		}
	default:
	}
}

// earns returns what a frame that is sent to the peer earns it. window is what the
// peer may have under way on the stream of a reset.
func (m *meter) earns(kind http2.FrameType, flags http2.Flags, length int, window int64) int64 {
	switch kind {
	case http2.FrameData:
		return dataGlitch + int64(length)/dataBytesPerUnit
	case http2.FrameHeaders:
		if m.requests {
			return 0 // this one is an answer, and the request has earned
		}
		return requestGlitch
	case http2.FramePing, http2.FrameSettings:
		if flags&http2.FlagPingAck != 0 { // that of settings is the same
			return 0 // otherwise a flood would pay for itself
		}
		return heavyGlitch
	case http2.FrameRSTStream:
		if window < 0 {
			return 0 // an answer to what the peer has sent too late
		}
		return resetGlitch + window/lateBytesPerCost
	default:
		return 0
	}
}

// spend takes n from the budget and reports whether there was enough. The clock
// is asked only when it matters.
func (m *meter) spend(n int64) bool {
	if m.budget < n {
		now := m.now()
		m.budget += min(int64(now.Sub(m.last)/(time.Second/glitchRate)), m.burst)
		m.budget = min(m.budget+m.earned.Swap(0), maxGlitches)
		m.last = now
	}
	if m.budget -= n; m.budget < 0 {
		m.fault = "too many frames that carry nothing"
		return false
	}
	return true
}

// spendControl is spend for a control message of n bytes.
func (m *meter) spendControl(n int) bool {
	return m.spend(controlGlitch + int64(n)/controlBytesPerCost)
}

// filter looks at the next bytes of the stream, which are to fill a buffer of
// which the first m.have bytes are left free: see held. It moves what goes on
// to the front of b and returns how much that is. The first bytes of a frame
// header that is cut off stay here. ok is false when the budget is overdrawn or a
// window exceeded: see fault.
func (m *meter) filter(b []byte) (n int, ok bool) {
	keep := func(from, to int) {
		if n != from {
			copy(b[n:], b[from:to])
		}
		n += to - from
	}
	i := 0
	for i < len(b) {
		switch {
		case m.skip > 0:
			k := min(m.skip, len(b)-i)
			keep(i, i+k)
			m.skip -= k
			i += k
		case m.left > 0:
			k := min(m.left, len(b)-i)
			if m.padded && !m.accountPadding(int(b[i])) {
				return n, false
			}
			if m.reset {
				m.soften(b[i : i+k])
			}
			if m.settings {
				m.frames.rewrite(b[i : i+k])
			}
			switch {
			case m.into != nil:
				m.refused += m.into.put(b[i : i+k])
				if m.refused > 0 && m.left == k {
					m.giveBack(m.refused)
					m.refused = 0
				}
			case !m.dropping:
				keep(i, i+k)
			}
			m.left -= k
			i += k
		case len(b)-i < frameHeaderLen:
			m.have = copy(m.header[:], b[i:])
			return n, true
		default:
			h := b[i : i+frameHeaderLen]
			length := frameLength(h)
			kind := http2.FrameType(h[3])
			m.left, m.kind = length, kind
			flags := http2.Flags(h[4])
			if !m.first && kind == http2.FrameSettings && flags&http2.FlagSettingsAck != 0 {
				// RFC 9113, section 3.4. x/net takes an acknowledgement for the settings.
				m.fault = "an acknowledgement of settings before its own"
				return n, false
			}
			m.dropping = m.drops && m.first && !m.block && length <= m.maxFrame && useless(kind, length, h[5:])
			m.first = true
			m.settings, m.frames.at = m.drops && kind == http2.FrameSettings && length%settingLen == 0, 0
			m.reset, m.code = m.drops && kind == http2.FrameRSTStream && length == resetLen, 0
			if kind == http2.FrameGoAway && m.goneAway != nil {
				m.goneAway()
			}
			m.pings.received(kind, flags)
			switch kind {
			case http2.FrameHeaders, http2.FramePushPromise, http2.FrameContinuation:
				m.block = flags&http2.FlagHeadersEndHeaders == 0 // the same in all of them
				m.headers = m.headers || !m.block
			}
			if !m.account(kind, flags, length, streamOf(h)) {
				return n, false
			}
			switch {
			case m.into != nil && m.showsNext():
				copy(h, shownFrame[:])
				keep(i, i+frameHeaderLen)
			case !m.dropping && m.into == nil:
				keep(i, i+frameHeaderLen)
			}
			i += frameHeaderLen
		}
	}
	return n, true
}

// shownFrame is empty, on no stream, and of a type that nobody uses.
var shownFrame = [frameHeaderLen]byte{3: 0xff}

// showsNext reports whether x/net is to be shown a frame again.
func (m *meter) showsNext() bool {
	if m.shows == 0 || m.block {
		return false
	}
	now := m.lastRead.Load()
	if now-m.shown < m.shows {
		return false
	}
	m.shown = now
	return true
}

// soften makes INTERNAL_ERROR of the code PROTOCOL_ERROR with which the peer
// resets a stream, in the next bytes of the payload. A stream error is about that
// stream alone (RFC 9113, section 5.4.2), but x/net takes this one for a reason to
// send no more requests on the connection.
func (m *meter) soften(b []byte) {
	for i, c := range b {
		m.code = m.code<<8 | uint32(c)
		if i+1 == m.left && http2.ErrCode(m.code) == http2.ErrCodeProtocol {
			b[i] = byte(http2.ErrCodeInternal)
		}
	}
}

// inHeaders reports whether a header block has begun and is not over.
func (m *meter) inHeaders() bool {
	return m.block || m.left > 0 && (m.kind == http2.FrameHeaders || m.kind == http2.FrameContinuation)
}

// held moves to b what filter has kept of a frame header, and returns how much
// that is: the next bytes of the stream belong behind it. b must have room for
// a frame header.
func (m *meter) held(b []byte) int {
	n := copy(b, m.header[:m.have])
	m.have = 0
	return n
}

// useless reports whether a client has no use for such a frame. A malformed
// PRIORITY frame is for x/net to refuse (RFC 9113, section 6.3).
func useless(kind http2.FrameType, length int, stream []byte) bool {
	if kind == http2.FramePriority {
		return length == 5 && binary.BigEndian.Uint32(stream)&(1<<31-1) != 0
	}
	return kind > http2.FrameContinuation
}

// account pays for one frame.
func (m *meter) account(kind http2.FrameType, flags http2.Flags, length int, stream uint32) bool {
	if m.requests && kind == http2.FrameHeaders {
		m.arrivals.begin(stream)
	}
	open, trailing, admitted, into := m.streams.received(kind, flags, stream, length, m.requests)
	m.into = into
	if !admitted {
		m.fault = "more DATA than the window of a stream admits"
		return false
	}
	switch kind {
	case http2.FrameData:
		m.inflow.received(int64(length))
		m.past = m.past || into != nil
		if m.past && m.inflow.exceeded() { // x/net sees only what comes to it
			m.fault = "more DATA than the window of the connection admits"
			return false
		}
		m.arrivals.came(stream, int64(length))
		if !m.requests && flags.Has(http2.FlagDataEndStream) {
			m.arrivals.end(stream) // nothing more comes
		}
		if !open {
			return m.spend(lightGlitch + int64(length)/lateBytesPerCost)
		}
		if length == 0 {
			return m.spend(lightGlitch)
		}
		m.padded = flags&http2.FlagDataPadded != 0
		return true
	case http2.FrameHeaders:
		if m.requests {
			m.earned.Add(requestGlitch)
		}
		if trailing {
			m.trailers.received(stream, length, flags)
		}
		if !m.requests && flags.Has(http2.FlagHeadersEndStream) {
			m.arrivals.end(stream)
		}
		return m.spend(lightGlitch + int64(length)/4096)
	case http2.FramePing, http2.FrameSettings, http2.FrameGoAway, http2.FramePushPromise:
		if flags&http2.FlagPingAck != 0 && kind != http2.FrameGoAway && kind != http2.FramePushPromise {
			m.streams.timed(kind, true, m.now())
		}
		return m.spend(heavyGlitch + int64(length)/256)
	case http2.FrameRSTStream:
		m.arrivals.end(stream)
		return m.spend(lightGlitch + int64(length)/4096)
	default:
		return m.spend(lightGlitch + int64(length)/4096)
	}
}

// accountPadding pays for DATA of which so far only the length of its padding has
// come.
func (m *meter) accountPadding(length int) bool {
	m.padded = false
	padding := 1 + length // with the length itself
	data := m.left - padding
	return data > 0 && padding <= max(data, alignPadding) || m.spend(lightGlitch)
}
