package h2conn

import (
	"io"

	"github.com/coder/websocket"
)

// SendsGoaway tells tests whether this build's x/net sends GOAWAY.
const SendsGoaway = sendsGoaway

// FindsClientBuffers tells tests whether this build finds x/net's buffers.
var FindsClientBuffers = findsClientBuffers

// ReadsOnce tells them whether it waits for what comes with little on the stack.
const ReadsOnce = canReadOnce

// ClientBuffers are those of one Transport.
type ClientBuffers struct{ b *clientBuffers }

func BuffersOf(t *Transport) *ClientBuffers { return &ClientBuffers{buffersOf(t.cc)} }

// Reading returns the bytes that the buffers for reading have. It is for the goroutine
// that reads.
func (b *ClientBuffers) Reading() int64 { return int64(b.b.reader.Size() + cap(*b.b.frame)) }

// Writing is the same for writing.
func (b *ClientBuffers) Writing() int64 {
	b.b.writeMu.Lock()
	defer b.b.writeMu.Unlock()
	return int64(b.b.writer.Size() + cap(*b.b.out) + b.b.header.Cap())
}

// Encoder returns that of headers.
func (b *ClientBuffers) Encoder() any {
	b.b.writeMu.Lock()
	defer b.b.writeMu.Unlock()
	return *b.b.encoder
}

// EndingBody returns r as a body that calls ended when it has been read to its
// end.
func EndingBody(r io.Reader, ended func()) io.Reader { return &endingBody{Reader: r, ended: ended} }

var StreamOfBody = streamOfBody

// HoldRead stands for a Read that has met the peer's close code and has not recorded it.
// It does that and ends when end is called.
func HoldRead(c *Conn, code int) (end func()) {
	c.readMu.Lock()
	return func() {
		_ = c.failed(websocket.CloseError{Code: websocket.StatusCode(code)})
		c.readMu.Unlock()
	}
}

// HasInlet reports whether conn, which a handler has hijacked, has one.
func HasInlet(conn any) bool { return conn.(*hijackedConn).inlet.Load() != nil }
