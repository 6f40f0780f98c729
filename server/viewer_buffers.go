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

	// largeBuffer is what bulk data goes to another node through, as much as the link takes
	// as one message, and what is no shorter than longAnswer to viewers. Only
	// maxLargeBuffers of each kind are in use at a time, since each may be held for long.
	largeBuffer     = 256 << 10
	longAnswer      = 1 << 20
	maxLargeBuffers = 16
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
	small, stream, bulk, large sync.Pool

	// Those of largeBuffer in use, by what for: answers to other nodes and to viewers, and
	// bodies of requests, which x/net holds.
	links, viewers, bodies largeCount
}

// largeCount counts those that are in use for one thing.
type largeCount struct{ atomic.Int32 }

// take reports whether there may be one more, and counts it.
func (c *largeCount) take() bool {
	if c.Add(1) <= maxLargeBuffers {
		return true
	}
	c.give()
	return false
}

func (c *largeCount) give() { c.Add(-1) }

func (p *bufferPools) of(size int) *sync.Pool {
	switch size {
	case smallBuffer:
		return &p.small
	case streamBuffer:
		return &p.stream
	case largeBuffer:
		return &p.large
	}
	return &p.bulk
}

// largeBuffers counts those in use for answers such as that of x.
func (x *exchange) largeBuffers() *largeCount {
	if x.hop != nil {
		return &x.srv.buffers.links
	}
	return &x.srv.buffers.viewers
}

// copyBuffers is the BufferPool of an exchange's ReverseProxy.
type copyBuffers exchange

// Get is called when the answer is known.
func (x *copyBuffers) Get() []byte {
	size := streamBuffer
	if x.final != nil {
		size = copyBuffer(x.final)
	}
	if size == bulkBuffer && (x.hop != nil || x.final.ContentLength >= longAnswer) && (*exchange)(x).largeBuffers().take() {
		size = largeBuffer
	}
	if b, ok := x.srv.buffers.of(size).Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

// Put takes a buffer back.
func (x *copyBuffers) Put(b []byte) {
	if len(b) == largeBuffer {
		(*exchange)(x).largeBuffers().give()
	}
	x.srv.buffers.of(len(b)).Put(&b)
}

var _ httputil.BufferPool = (*copyBuffers)(nil)
