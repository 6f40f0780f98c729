package server

import (
	"net/http/httputil"
	"sync"
)

// copyBuffer is the size of the buffers that answers are copied through.
const copyBuffer = 64 << 10

// bufferPool is ReverseProxy's.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, copyBuffer)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }

var _ httputil.BufferPool = (*bufferPool)(nil)
