package h2conn

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2"
)

// The receive windows of streams, which grow with what the link carries in a
// round trip. x/net knows fixed ones. So it is told of the largest, and the peer
// of a small one: the first SETTINGS frame is changed on its way out. Where a
// stream is read as fast as it comes, and the window is what holds it up, a
// WINDOW_UPDATE is put behind one of x/net's own.
//
//	what the peer may send on a stream      all streams together
//	first + what it has grown by            connWindow
//	≤ most, which x/net enforces            = maxOpen * first + room + lag
//
// So streams that stall, of which there can be no more than maxOpen, cannot starve
// the next one, however much others have grown; and nobody can make this end hold
// more than connWindow.
const (
	// maxOpen is how many streams are sure of their first window.
	maxOpen = answeringMaxStreams

	// minFirstWindow is what the peer takes for the window before it knows ours
	// (RFC 9113, section 6.9.2), rounded up.
	minFirstWindow = 64 << 10

	// firstPart is the part of the connection's window that all first windows take, unless
	// minFirstWindow is more, as at the answering end, which has half. What a
	// stream has of it on a slow link waits in a queue there, before all others: 256 KiB
	// are a tenth of a second at 20 Mbit/s.
	firstPart = 4

	// minGrowth is the least by which it is worth to grow.
	minGrowth = 16 << 10

	// minRoundTrip is taken for the round trip of a shorter link: the
	// ends of a busy one answer no sooner.
	minRoundTrip = 4 * time.Millisecond

	// x/net returns to the peer what has been read at once, from 4 KiB on, which costs
	// a system call here and wakes the other end. So that waits until it comes to this
	// part of the window, or maxLag. The peer has the rest of the window meanwhile.
	lagPart = 8
	maxLag  = 256 << 10
)

// streamWindows is what all streams of a connection share.
type streamWindows struct {
	first int64 // what a stream begins with; 0: the windows are x/net's business
	most  int64 // what it may grow to
	room  int64 // what all may grow by
	lag   int64 // of the connection's window: what may wait to be returned to the peer

	grown int64 // what the open ones have grown by
	tails int64 // what those had that are over, and of which a part may be unread
}

// newStreamWindows divides connWindow among streams that may grow to most each.
// Where all have room for that, there is nothing to grow.
func newStreamWindows(most, connWindow int64) streamWindows {
	first := max(connWindow/firstPart/maxOpen&^(minFirstWindow-1), minFirstWindow)
	if first >= most || maxOpen*most <= connWindow {
		return streamWindows{}
	}
	room := max(connWindow-maxOpen*first, 0)
	lag := min(room/lagPart, maxLag) // out of the room, so that no first window lacks it
	return streamWindows{first: first, most: most, room: room - lag, lag: lag}
}

// streamWindow is that of one stream.
type streamWindow struct {
	credit int64 // what the peer may still send
	grown  int64 // above the first window
	owed   int64 // of credit: what the peer has not been told of

	inlet  *inlet // where DATA goes; nil: to x/net
	passed bool   // some has gone to x/net

	answered  bool // a header block has come
	forgotten bool // nobody waits for what comes

	// Of the measurement under way.
	began time.Time // zero: none has begun
	bytes int64     // that have come since
}

// grow returns what the window of a stream grows by, now that some of it has been
// read. held is what the connection holds, and rtt its round trip, or 0.
func (w *streamWindows) grow(s *streamWindow, held int64, rtt time.Duration, now func() time.Time) int64 {
	if s.began.IsZero() {
		s.began, s.bytes = now(), 0
		return 0
	}
	window := w.first + s.grown
	if s.bytes < window/2 { // the clock is asked only when it matters
		return 0
	}
	end := now()
	took, bytes := max(end.Sub(s.began), time.Microsecond), s.bytes
	s.began, s.bytes = end, 0
	if rtt > 0 {
		rtt = max(rtt, minRoundTrip)
	}
	// Twice what comes in a round trip, for what it is now may be the window's
	// doing. By doubling, for a burst says little.
	want := int64(2 * float64(bytes) * float64(rtt) / float64(took))
	w.tails = min(w.tails, held)
	n := min(want, 2*window, w.most, window+w.room-w.grown-w.tails) - window
	if n < minGrowth {
		return 0
	}
	s.grown += n
	s.credit += n
	w.grown += n
	return n
}

// returns notes that n bytes of a stream have been read, which the peer need not be
// told at once. It returns what it is to be told now.
func (w *streamWindows) returns(s *streamWindow, n int64) int64 {
	s.owed += n
	if s.owed < min((w.first+s.grown)/lagPart, maxLag) {
		return 0
	}
	n, s.owed = s.owed, 0
	return n
}

// over gives back what a stream has grown by that is over. What of it has come and
// is unread is still held.
func (w *streamWindows) over(s streamWindow) {
	w.grown -= s.grown
	w.tails += s.grown
}

const settingLen = 6 // RFC 9113, section 6.5.1

// rewriteSetting puts the first window into the next bytes p of a SETTINGS
// payload, of which at bytes have passed.
func (s *sentFrames) rewriteSetting(p []byte, at int, window uint32) {
	var value [4]byte
	binary.BigEndian.PutUint32(value[:], window)
	for i := range p {
		if pos := (at + i) % settingLen; pos < 2 {
			s.setting = s.setting<<8 | uint16(p[i])
		} else if http2.SettingID(s.setting) == http2.SettingInitialWindowSize {
			p[i] = value[pos-2]
		}
	}
}

const windowUpdateLen = frameHeaderLen + 4

// onlyWindowUpdates reports whether p is nothing but whole WINDOW_UPDATE frames.
func onlyWindowUpdates(p []byte) bool {
	for ; len(p) >= windowUpdateLen; p = p[windowUpdateLen:] {
		if http2.FrameType(p[3]) != http2.FrameWindowUpdate || frameLength(p) != windowUpdateLen-frameHeaderLen {
			return false
		}
	}
	return len(p) == 0
}

// appendWindowUpdate appends a WINDOW_UPDATE frame (RFC 9113, section 6.9).
func appendWindowUpdate(b []byte, stream uint32, n int64) []byte {
	b = append(b, 0, 0, 4, byte(http2.FrameWindowUpdate), 0)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// roundTrip measures how long the peer takes to answer, by SETTINGS and PING
// frames, which are acknowledged in order. It is the least of the last few:
// an ack that waited behind a download says nothing about the link.
type roundTrip struct {
	settings time.Time // when ours was sent; zero: not, or acknowledged
	ping     time.Time // when the one was sent that is timed; zero: none
	pings    int       // that are not acknowledged
	last     [4]time.Duration
	next     int // place in last
}

func (r *roundTrip) sample(d time.Duration) {
	r.last[r.next] = max(d, 1)
	r.next = (r.next + 1) % len(r.last)
}

// least returns the round trip, or 0 if it is not known.
func (r *roundTrip) least() (d time.Duration) {
	for _, l := range r.last {
		if l > 0 && (d == 0 || l < d) {
			d = l
		}
	}
	return d
}

func (r *roundTrip) sent(kind http2.FrameType, now time.Time) {
	if kind == http2.FrameSettings {
		r.settings = now
		return
	}
	if r.pings == 0 {
		r.ping = now
	}
	r.pings++
}

func (r *roundTrip) acknowledged(kind http2.FrameType, now time.Time) {
	switch {
	case kind == http2.FrameSettings && !r.settings.IsZero():
		r.sample(now.Sub(r.settings))
		r.settings = time.Time{}
	case kind == http2.FramePing && r.pings > 0:
		r.pings--
		if !r.ping.IsZero() {
			r.sample(now.Sub(r.ping))
			r.ping = time.Time{}
		}
	}
}
