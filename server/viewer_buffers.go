package server

import (
	"net/http"
	"net/http/httputil"
	"sync"
)

// Sizes of the buffers that answers are copied through. An answer holds its buffer
// until it is over, so one that may be a stream of events gets none for bulk data.
const (
	smallBuffer  = 4 << 10
	streamBuffer = 16 << 10 // where the length is not known
	bulkBuffer   = 64 << 10
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
type bufferPools struct{ small, stream, bulk sync.Pool }

func (p *bufferPools) of(size int) *sync.Pool {
	switch size {
	case smallBuffer:
		return &p.small
	case streamBuffer:
		return &p.stream
	}
	return &p.bulk
}

// copyBuffers is the BufferPool of an exchange's ReverseProxy.
type copyBuffers exchange

// Get is called when the answer is known.
func (x *copyBuffers) Get() []byte {
	size := streamBuffer
	if x.final != nil {
		size = copyBuffer(x.final)
	}
	if b, ok := x.srv.buffers.of(size).Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, size)
}

// Put takes a buffer back.
func (x *copyBuffers) Put(b []byte) { x.srv.buffers.of(len(b)).Put(&b) }

var _ httputil.BufferPool = (*copyBuffers)(nil)
