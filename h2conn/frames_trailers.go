package h2conn

import (
	"sync"

	"golang.org/x/net/http2"
)

// What trailers cost in memory until somebody has read the body before them: a byte on
// the wire can be a field.
const (
	trailerByteCost = 150
	maxTrailerCost  = 1536 << 10 // of a list of askingMaxHeaderBytes

	// plainTrailers is what trailers may have on the wire without being counted.
	plainTrailers = 64
)

// unreadTrailers knows what this end holds of trailers that nobody has read: x/net keeps
// them behind the body, where flow control does not bound them. At the answering end they
// count until the answer is over.
type unreadTrailers struct {
	mu      sync.Mutex
	costs   map[uint32]int64 // by stream; those of plain trailers are not there
	changed func(delta int64)
}

// received notes the HEADERS frame with which the peer ends a stream on which there has
// been one before. If it is not the whole block, that is as large as there may be.
func (t *unreadTrailers) received(stream uint32, length int, flags http2.Flags) {
	whole := flags.Has(http2.FlagHeadersEndHeaders)
	if t.changed == nil || whole && length <= plainTrailers {
		return
	}
	cost := int64(maxTrailerCost)
	if whole {
		cost = min(cost, int64(length)*trailerByteCost)
	}
	t.mu.Lock()
	if t.costs == nil {
		t.costs = make(map[uint32]int64)
	}
	cost -= t.costs[stream]
	t.costs[stream] += cost
	t.mu.Unlock()
	t.changed(cost)
}

// ends reports whether a frame that the answering end sends is the last of its stream, of
// which x/net then holds nothing any more.
func ends(kind http2.FrameType, flags http2.Flags) bool {
	return kind == http2.FrameRSTStream || (kind == http2.FrameData || kind == http2.FrameHeaders) && flags.Has(http2.FlagDataEndStream)
}

// read says that the trailers of stream are not held any more.
func (t *unreadTrailers) read(stream uint32) {
	if t.changed == nil {
		return
	}
	t.mu.Lock()
	cost := t.costs[stream]
	delete(t.costs, stream)
	t.mu.Unlock()
	if cost > 0 {
		t.changed(-cost)
	}
}

// LastStream returns the stream of the request whose header has been sent last. In
// [net/http/httptrace.ClientTrace.WroteHeaders] that is the one of the hook.
func (t *Transport) LastStream() uint32 { return t.conn.meter.streams.newest() }

// TrailersRead says that nothing of the answer on stream is held any more, neither its
// body nor its trailers, which [Memory] counts until then.
func (t *Transport) TrailersRead(stream uint32) {
	if t.conn.meter.streams.forget(stream) {
		t.conn.meter.trailers.read(stream)
	}
}
