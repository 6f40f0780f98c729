package h2conn

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// An inlet has what comes from the peer on the stream of an upgrade, at the answering end,
// past x/net's server: for each DATA frame, that has its reader, its serve loop and the
// handler wait for each other four times, which costs more than all else that a small
// message needs. The goroutine that reads the connection puts the bytes here, and keeps
// the windows:
//
//	none     DATA goes to x/net, as it does on all streams, if any has come before
//	open     DATA comes here, except for frames with a flag: END_STREAM or padding
//	over     such a frame has come, or the stream is over, and what comes goes to x/net.
//	         The reader takes what is here, and goes on with x/net's body, which has
//	         the rest, and knows how it ended
//	closed   by the reader's side, at any time: what is here is dropped
//
// For x/net a stream with an inlet is one on which nothing comes.
type inlet struct {
	stream uint32

	mu     sync.Mutex
	came   sync.Cond // of mu: anything below
	buf    bytes.Buffer
	over   bool
	closed bool
	kept   int // bytes that have been read, and that the peer may not send anew yet
}

const (
	// inletReturn is how much is read until the peer may send as much anew: x/net's
	// own measure.
	inletReturn = 4 << 10

	// inletIdle is what an empty inlet keeps of its buffer.
	inletIdle = 4 << 10
)

func newInlet(stream uint32) *inlet {
	in := &inlet{stream: stream}
	in.came.L = &in.mu
	return in
}

// put adds p. It returns how many bytes have nobody to read them.
func (in *inlet) put(p []byte) (dropped int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return len(p)
	}
	in.buf.Write(p)
	in.came.Signal()
	return 0
}

// read waits for bytes. It returns none when the inlet is over, or closed. returned is how
// many bytes of windows are to be returned to the peer.
func (in *inlet) read(p []byte) (n, returned int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.buf.Len() == 0 && !in.over {
		in.came.Wait()
	}
	n, _ = in.buf.Read(p)
	if in.buf.Len() == 0 && in.buf.Cap() > inletIdle {
		in.buf = bytes.Buffer{}
	}
	if in.kept += n; in.kept >= inletReturn {
		returned, in.kept = in.kept, 0
	}
	return n, returned
}

// end makes the inlet over.
func (in *inlet) end() {
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.over = true
	in.came.Broadcast()
}

// close drops what is here, and returns how many bytes the connection's window lacks.
func (in *inlet) close() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := in.buf.Len() + in.kept
	in.buf, in.kept = bytes.Buffer{}, 0
	in.over, in.closed = true, true
	in.came.Broadcast()
	return n
}

// openInlet returns an inlet for the stream whose body that is, or nil if there can be
// none. It is over when ctx, of the request, is.
func (c *http2Conn) openInlet(ctx context.Context, body io.Reader) *inlet {
	m := c.frames.meter
	if m.arrivals != nil || !m.requests {
		return nil
	}
	if wide, ok := body.(*wideBody); ok {
		body = wide.ReadCloser
	}
	in := newInlet(streamOfBody(body))
	if in.stream == 0 || !m.streams.take(in) {
		return nil
	}
	context.AfterFunc(ctx, in.end)
	c.frames.inlets.Store(true)
	return in
}

// closeInlet ends in, of which nobody reads any more.
func (c *http2Conn) closeInlet(in *inlet) {
	c.frames.meter.streams.untake(in)
	if n := in.close(); n > 0 {
		c.giveBack(0, n)
	}
}

// giveBack lets the peer send n more bytes, on the connection and, if that is not 0, on
// stream. It does not block.
func (c *http2Conn) giveBack(stream uint32, n int) {
	c.outMu.Lock()
	begins := c.frames.meter.gaveBack(stream, int64(n)) && !c.sends // one is enough, however long it waits
	c.sends = c.sends || begins
	c.outMu.Unlock()
	if begins {
		go c.sendDue()
	}
}

// gaveBack notes that n bytes of a stream have been read that x/net does not know of. It
// reports whether the peer is to be told.
func (m *meter) gaveBack(stream uint32, n int64) bool {
	s := &m.out
	m.inflow.granted(n)
	if s.owed += n; s.owed >= m.streams.windows.lag {
		s.due = appendWindowUpdate(s.due, 0, s.owed)
		s.owed = 0
	}
	if more := m.streams.returned(stream, n, m.inflow.held(), m.now); more > 0 {
		s.due = appendWindowUpdate(s.due, stream, more)
	}
	return len(s.due) > 0
}

// readInlet waits for bytes of the inlet. It reports false if there is none, or it is over.
func (c *hijackedConn) readInlet(p []byte) (n int, ok bool) {
	in := c.inlet.Load()
	if in == nil || len(p) == 0 {
		return 0, false
	}
	n, returned := in.read(p)
	if returned > 0 {
		c.u.on.http2.giveBack(in.stream, returned)
	}
	return n, n > 0
}
