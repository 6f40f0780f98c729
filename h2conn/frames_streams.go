package h2conn

import (
	"encoding/binary"
	"sync"

	"golang.org/x/net/http2"
)

// openStreams knows on which streams of a connection the peer may still send.
// What comes on others is work for nothing, which the meter charges.
type openStreams struct {
	mu   sync.Mutex
	last uint32 // the highest stream that has been opened
	open map[uint32]struct{}
}

// streamOf returns the stream of a frame, by its header (RFC 9113, section 4.1).
func streamOf(header []byte) uint32 {
	return binary.BigEndian.Uint32(header[5:]) & (1<<31 - 1)
}

// sent notes a frame that goes to the peer. asking says that this end opens
// streams, by HEADERS.
func (s *openStreams) sent(kind http2.FrameType, stream uint32, asking bool) {
	switch kind {
	case http2.FrameHeaders:
		if asking {
			s.begin(stream)
		}
	case http2.FrameRSTStream:
		s.end(stream)
	default:
	}
}

// received notes a frame of the peer, and reports whether the stream was one on
// which it may send. answering says that the peer opens streams.
func (s *openStreams) received(kind http2.FrameType, flags http2.Flags, stream uint32, answering bool) (open bool) {
	if kind != http2.FrameData && kind != http2.FrameHeaders && kind != http2.FrameRSTStream {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if answering && kind == http2.FrameHeaders {
		s.beginLocked(stream)
	}
	_, open = s.open[stream]
	if kind == http2.FrameRSTStream || flags&http2.FlagDataEndStream != 0 { // the same in both
		delete(s.open, stream)
	}
	return open
}

func (s *openStreams) begin(stream uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beginLocked(stream)
}

func (s *openStreams) beginLocked(stream uint32) {
	if stream <= s.last {
		return // trailers
	}
	s.last = stream
	if s.open == nil {
		s.open = make(map[uint32]struct{})
	}
	s.open[stream] = struct{}{}
}

func (s *openStreams) end(stream uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, stream)
}
