package h2conn

import (
	"cmp"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// openStreams knows on which streams of a connection the peer may still send, and
// how much. What comes on others is work for nothing, which the meter charges.
type openStreams struct {
	mu      sync.Mutex
	last    uint32 // the highest stream that has been opened
	open    map[uint32]streamWindow
	windows streamWindows
	rtt     roundTrip

	several *atomic.Bool // is told whether there is more than one; nil: nobody wants to know
}

// fixedWindow is at least what the peer may have under way on a stream where
// windows do not grow, unless the configuration says more.
const fixedWindow = 1 << 20

// streamOf returns the stream of a frame, by its header (RFC 9113, section 4.1).
func streamOf(header []byte) uint32 {
	return binary.BigEndian.Uint32(header[5:]) & (1<<31 - 1)
}

// sent notes a frame that goes to the peer, and returns what the peer may have
// under way on its stream: -1 if it resets one on which the peer may send nothing.
// asking says that this end opens streams, by HEADERS.
func (s *openStreams) sent(kind http2.FrameType, stream uint32, asking bool) (window int64) {
	if kind != http2.FrameHeaders && kind != http2.FrameRSTStream {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == http2.FrameHeaders && asking {
		s.beginLocked(stream)
	}
	w, open := s.open[stream]
	if kind == http2.FrameRSTStream {
		if !open {
			return -1
		}
		s.endLocked(stream)
	}
	return cmp.Or(s.windows.first, fixedWindow) + w.grown
}

// granted notes that x/net returns n bytes of a stream's window to the peer. With
// waits the WINDOW_UPDATE for that goes nowhere. It returns how much the peer is to be
// told of beside that. grows says that the window may grow.
func (s *openStreams) granted(stream uint32, n, held int64, waits, grows bool, now func() time.Time) (more int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.open[stream]
	if !ok || s.windows.first == 0 {
		if waits {
			return n
		}
		return 0
	}
	w.credit += n
	if grows {
		more = s.windows.grow(&w, held, s.rtt.least(), now)
	}
	if waits {
		more += s.windows.returns(&w, n)
	}
	s.open[stream] = w
	return more
}

// newest returns the stream that has been opened last.
func (s *openStreams) newest() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// forget says that nobody waits for anything on stream any more. It reports whether
// trailers may have come there.
func (s *openStreams) forget(stream uint32) (trailed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, open := s.open[stream]
	if open {
		w.forgotten = true
		s.open[stream] = w
	}
	return !open
}

// received notes a frame of the peer. It reports whether the stream was one on
// which the peer may send, whether it is trailers that somebody waits for, and whether its window admits that, as far as x/net does
// not look after it: at the answering end, x/net resets the stream that exceeds the
// largest window, and the connection goes on. into, if not nil, is where the frame's
// bytes belong. answering says that the peer opens streams.
func (s *openStreams) received(kind http2.FrameType, flags http2.Flags, stream uint32, length int, answering bool) (open, trailing, admitted bool, into *inlet) {
	if kind != http2.FrameData && kind != http2.FrameHeaders && kind != http2.FrameRSTStream {
		return true, false, true, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answering && kind == http2.FrameHeaders {
		s.beginLocked(stream)
	}
	w, open := s.open[stream]
	admitted = true
	if open && kind == http2.FrameData && s.windows.first > 0 {
		w.credit -= int64(length)
		w.bytes += int64(length)
		switch {
		case w.inlet == nil:
			w.passed = w.passed || length > 0
		case flags != 0 || length == 0:
			w.inlet.end()
			w.inlet, w.passed = nil, true
		default:
			into = w.inlet
		}
		admitted = w.credit >= 0 || answering && into == nil
		s.open[stream] = w
	}
	if open && kind == http2.FrameHeaders {
		trailing = w.answered && !w.forgotten && flags.Has(http2.FlagHeadersEndStream)
		w.answered = true
		s.open[stream] = w
	}
	if kind == http2.FrameRSTStream || flags&http2.FlagDataEndStream != 0 { // the same in both
		s.endLocked(stream)
	}
	return open, trailing, admitted, into
}

// take makes in where the stream's DATA goes. It reports false if it cannot: some has gone
// to x/net, or windows are x/net's business.
func (s *openStreams) take(in *inlet) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.open[in.stream]
	if !ok || w.passed || w.inlet != nil || s.windows.first == 0 {
		return false
	}
	w.inlet = in
	s.open[in.stream] = w
	return true
}

// untake undoes take. What comes goes to x/net again.
func (s *openStreams) untake(in *inlet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w, ok := s.open[in.stream]; ok && w.inlet == in {
		w.inlet, w.passed = nil, true
		s.open[in.stream] = w
	}
}

// returned notes that n bytes have been read which came into an inlet. It returns how much
// the peer is to be told of: that it may send as much anew, and by what the window grows.
func (s *openStreams) returned(stream uint32, n, held int64, now func() time.Time) (more int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.open[stream]
	if !ok {
		return 0
	}
	w.credit += n
	more = s.windows.grow(&w, held, s.rtt.least(), now) + s.windows.returns(&w, n)
	s.open[stream] = w
	return more
}

// timed notes a SETTINGS or PING frame, or its acknowledgement, for the round trip.
func (s *openStreams) timed(kind http2.FrameType, ack bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ack {
		s.rtt.acknowledged(kind, now)
	} else {
		s.rtt.sent(kind, now)
	}
}

// shrink gives up the memory of streams that are over.
func (s *openStreams) shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		s.open = nil
	}
}

func (s *openStreams) beginLocked(stream uint32) {
	if stream <= s.last {
		return // trailers
	}
	s.last = stream
	if s.open == nil {
		s.open = make(map[uint32]streamWindow)
	}
	s.open[stream] = streamWindow{credit: s.windows.first}
	s.countLocked()
}

func (s *openStreams) countLocked() {
	if s.several != nil {
		s.several.Store(len(s.open) > 1)
	}
}

func (s *openStreams) endLocked(stream uint32) {
	if w, ok := s.open[stream]; ok {
		w.inlet.end()
		s.windows.over(w)
		delete(s.open, stream)
		s.countLocked()
	}
}
