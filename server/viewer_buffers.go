package server

import (
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
)

// Sizes of the buffers that answers are copied through. An answer holds its buffer
// until it is over, so one that may be a stream of events gets none for bulk data.
const (
	smallBuffer  = 4 << 10
	streamBuffer = 16 << 10 // where the length is not known
	bulkBuffer   = 64 << 10

	// linkBuffer is what bulk data goes to another node through: as much as the link takes
	// as one message. Only so many answers at a time have one, since it may be held for long.
	linkBuffer     = 256 << 10
	maxLinkBuffers = 16
)

// copyBuffer returns the size of the buffer that resp is copied through.
func copyBuffer(resp *http.Response) int {
	switch n := resp.ContentLength; {
	case n >= 0 && n <= smallBuffer:
		return smallBuffer
	case n <= streamBuffer: // also where it is not known
		return streamBuffer
	}
	return bulkBuffer
}

// bufferPools are the buffers of a Server that are not in use.
type bufferPools struct {
	small, stream, bulk, link sync.Pool

	links atomic.Int32 // how many of link are in use
}

func (p *bufferPools) of(size int) *sync.Pool {
	switch size {
	case smallBuffer:
		return &p.small
	case streamBuffer:
		return &p.stream
	case linkBuffer:
		return &p.link
	}
	return &p.bulk
}

// takeLink reports whether a linkBuffer may be used, and counts it.
func (p *bufferPools) takeLink() bool {
	if p.links.Add(1) <= maxLinkBuffers {
		return true
	}
	p.links.Add(-1)
	return false
}

// copyBuffers is the BufferPool of an exchange's ReverseProxy.
type copyBuffers exchange

// Get is called when the answer is known.
func (x *copyBuffers) Get() []byte {
	size := streamBuffer
	if x.final != nil {
		size = copyBuffer(x.final)
	}
	if size == bulkBuffer && x.hop != nil && x.srv.buffers.takeLink() {
		size = linkBuffer
	}
	if b, ok := x.srv.buffers.of(size).Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

// Put takes a buffer back.
func (x *copyBuffers) Put(b []byte) {
	if len(b) == linkBuffer {
		x.srv.buffers.links.Add(-1)
	}
	x.srv.buffers.of(len(b)).Put(&b)
}

var _ httputil.BufferPool = (*copyBuffers)(nil)
