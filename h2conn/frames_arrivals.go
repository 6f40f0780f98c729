package h2conn

import (
	"context"
	"io"
	"net/http"
	"reflect"
	"sync"
)

// StreamMemory is told what one stream makes this process hold, where a connection
// carries streams of several who are not to answer for each other.
type StreamMemory struct {
	// Held is called with each change of the number of bytes of DATA that have come and
	// that nobody has read. They are a part of what [Memory.Held] is told of, which has
	// those still that have been read, or that nobody will, until flow control gives them
	// back. It must not block.
	Held func(delta int64)

	// Full reports whether the stream is to hold no more than it may already: its window
	// does not grow. It must not block.
	Full func() bool
}

// arrivals tells each stream's StreamMemory what comes on it. Nil knows of none.
type arrivals struct {
	mu   sync.Mutex
	last uint32              // the highest stream that has begun
	of   map[uint32]*arrival // by stream
}

// arrival is that of one stream.
type arrival struct {
	bytes int64 // that have come while nobody wanted to know
	to    StreamMemory
}

// begin is called when a stream begins, before anything can come on it.
func (a *arrivals) begin(stream uint32) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if stream <= a.last {
		return // trailers
	}
	if a.of == nil {
		a.of = make(map[uint32]*arrival)
	}
	a.last, a.of[stream] = stream, new(arrival)
}

// end is called when nobody wants to know any more.
func (a *arrivals) end(stream uint32) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.of, stream)
}

// came says that n bytes have come on a stream.
func (a *arrivals) came(stream uint32, n int64) {
	if a == nil || n == 0 {
		return
	}
	a.mu.Lock()
	s := a.of[stream]
	var held func(int64)
	if s != nil {
		if held = s.to.Held; held == nil {
			s.bytes += n
		}
	}
	a.mu.Unlock()
	if held != nil {
		held(n)
	}
}

// tell has m told what comes on a stream, and what has come.
func (a *arrivals) tell(stream uint32, m StreamMemory) {
	if a == nil {
		return
	}
	a.mu.Lock()
	s := a.of[stream]
	var n int64
	if s != nil {
		s.to, n, s.bytes = m, s.bytes, 0
	}
	a.mu.Unlock()
	if n > 0 {
		m.Held(n)
	}
}

// full reports whether the window of a stream is not to grow.
func (a *arrivals) full(stream uint32) bool {
	if a == nil {
		return false
	}
	a.mu.Lock()
	s := a.of[stream]
	var full func() bool
	if s != nil {
		full = s.to.Full
	}
	a.mu.Unlock()
	return full != nil && full()
}

// ChargeStream has m told what is held of the answer on stream, from its first byte: see
// [Transport.LastStream]. Who reads the body tells m of that himself. It does nothing
// without [Memory.Streams].
func (t *Transport) ChargeStream(stream uint32, m StreamMemory) {
	t.conn.meter.arrivals.tell(stream, m)
}

// servedStream is a stream of the answering end, in the context of its request.
type servedStream struct {
	of *arrivals
	id uint32

	mu   sync.Mutex
	read int64 // bytes of the body, while nobody wanted to know
	to   StreamMemory
}

type servedStreamKey struct{}

// ChargeRequest has m told what is held of the body of r, a request that [Serve] has given
// to its handler, or of what comes after an upgrade, from its first byte. It does
// nothing without [Memory.Streams].
func ChargeRequest(r *http.Request, m StreamMemory) {
	s, ok := r.Context().Value(servedStreamKey{}).(*servedStream)
	if !ok {
		return
	}
	s.mu.Lock()
	read := s.read
	s.to, s.read = m, 0
	s.mu.Unlock()
	s.of.tell(s.id, m)
	if read > 0 {
		m.Held(-read)
	}
}

// StreamOf returns the stream of r, a request that [Serve] has given to its handler. It is
// 0 without [Memory.Streams].
func StreamOf(r *http.Request) uint32 {
	if s, ok := r.Context().Value(servedStreamKey{}).(*servedStream); ok {
		return s.id
	}
	return 0
}

// serveStream returns r, which x/net has made, such that its stream can be charged for.
func (a *arrivals) serveStream(r *http.Request) *http.Request {
	if a == nil {
		return r
	}
	id := streamOfBody(r.Body)
	if id == 0 {
		return r
	}
	s := &servedStream{of: a, id: id}
	r = r.WithContext(context.WithValue(r.Context(), servedStreamKey{}, s))
	r.Body = chargedBody{r.Body, s}
	return r
}

// streamOfBody returns the stream of a request's body, which x/net has in a private field,
// and in no other place that can be reached. It returns 0 if there is no such field. A test
// pins that there is.
func streamOfBody(body io.Reader) uint32 {
	v := reflect.ValueOf(body)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return 0
	}
	s := v.Elem().FieldByName("stream")
	if !s.IsValid() || s.Kind() != reflect.Pointer || s.IsNil() || s.Elem().Kind() != reflect.Struct {
		return 0
	}
	id := s.Elem().FieldByName("id")
	if !id.IsValid() || id.Kind() != reflect.Uint32 {
		return 0
	}
	return uint32(id.Uint())
}

// chargedBody is a body whose reader takes bytes away from what is held.
type chargedBody struct {
	io.ReadCloser
	stream *servedStream
}

func (b chargedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.stream.hasRead(int64(n))
	}
	return n, err
}

func (s *servedStream) hasRead(n int64) {
	s.mu.Lock()
	held := s.to.Held
	if held == nil {
		s.read += n
	}
	s.mu.Unlock()
	if held != nil {
		held(-n)
	}
}
