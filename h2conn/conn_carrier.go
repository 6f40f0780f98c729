package h2conn

import (
	"bufio"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// readAheadSize is how much a carrier reads ahead at a time.
	readAheadSize = 16 << 10

	// bulkAhead is the same where large messages come: the header of the next one. The
	// rest would only be copied once more.
	bulkAhead = 512
)

// readBuffers holds buffers of readAheadSize bytes, so that an idle connection holds
// none.
var readBuffers = sync.Pool{New: func() any { return new([readAheadSize]byte) }}

// carrier is the byte stream below a websocket: writes go through a combiner, and
// small reads through a buffer that it has only while bytes come.
type carrier struct {
	r     io.Reader
	flood *flood
	*combiner

	above *bufio.Reader // the websocket's, which reads from here; nil: not known
	await *socketWait   // how to wait with little on the stack; nil: there is no other way than Read

	// reading has a token while Read or wait is under way, also while nothing comes. It
	// is no mutex, since Close may have to wait for it, for as long as its timeout.
	reading chan struct{}
	buffer  *[readAheadSize]byte // lent to ahead, or nil
	ahead   []byte               // has been read, and not taken yet
	small   [acceptReadBuffer]byte
	more    bool  // the last read has filled what it had, so there may be more
	bulk    bool  // the last read was a large one, of what is to go to its reader
	failed  error // what a wait has met; a socket tells of a reset once

	closeOnce sync.Once
	closeErr  error
	gone      chan struct{} // closed when the carrier is closed
}

func newCarrier(r io.Reader, w io.WriteCloser, f *flood, writeTimeout time.Duration, masked bool) *carrier {
	return &carrier{r: r, flood: f, combiner: newCombiner(w, writeTimeout, masked), reading: make(chan struct{}, 1), gone: make(chan struct{})}
}

func (c *carrier) Read(p []byte) (int, error) {
	if err := c.flood.err(); err != nil {
		return 0, err
	}
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if len(c.ahead) > 0 {
		return c.take(p), nil
	}
	if c.failed != nil {
		return 0, c.failed
	}
	if !c.more || len(p) >= readAheadSize {
		n, err := c.r.Read(p)
		c.more = n == len(p)
		c.bulk = len(p) >= readAheadSize
		c.flood.arrived(n)
		return n, err
	}
	if c.buffer == nil {
		c.buffer = readBuffers.Get().(*[readAheadSize]byte)
	}
	room := c.buffer[:]
	if c.bulk {
		room = room[:bulkAhead]
	}
	n, err := c.r.Read(room)
	c.ahead, c.more, c.bulk = room[:n], n == len(room), false
	c.flood.arrived(n)
	if n > 0 {
		err = nil // it comes again
	}
	return c.take(p), err
}

// Write writes frames of the websocket library. A close frame that cannot leave is
// no error: the peer's may have come, which Close then reads.
func (c *carrier) Write(p []byte) (int, error) {
	n, err := c.combiner.Write(p)
	if err != nil && isClose(p) {
		return len(p), nil
	}
	return n, err
}

// wait waits until something has come, or there is nothing to wait for. The goroutine
// that reads calls it, between two messages: the stack on which it waits for most of
// its life is not as deep here as below the websocket library. Read has its error.
func (c *carrier) wait() {
	c.reading <- struct{}{}
	defer func() { <-c.reading }()
	if c.lacks() {
		c.putBuffer()
		n, err := c.r.Read(c.small[:])
		c.flood.arrived(n)
		c.failed = err
		c.ahead, c.more = c.small[:n], n == len(c.small)
		if c.more {
			c.buffer = readBuffers.Get().(*[readAheadSize]byte)
		}
	}
}

// lacks reports whether Read has nothing to return yet.
func (c *carrier) lacks() bool {
	return len(c.ahead) == 0 && c.failed == nil && c.flood.err() == nil
}

func (c *carrier) putBuffer() {
	if c.buffer != nil {
		readBuffers.Put(c.buffer)
		c.buffer = nil
	}
}

// take moves bytes that have been read ahead to p.
func (c *carrier) take(p []byte) int {
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
		if !c.more {
			c.putBuffer()
		}
	}
	return n
}

// Close lets what was written leave, within closeLinger, and closes.
func (c *carrier) Close() error {
	c.closeOnce.Do(func() {
		c.closeErr = c.combiner.Close()
		close(c.gone)
	})
	return c.closeErr
}

// kill closes the network connection without waiting for anything. Calls of Read,
// Write or Close that block return.
func (c *carrier) kill() { _ = c.abort(net.ErrClosed) }

// carrierConn is a carrier in the shape of a net.Conn, as a Hijacker has to
// return one.
type carrierConn struct {
	net.Conn // addresses and deadlines
	*carrier
}

func (c carrierConn) Read(p []byte) (int, error)         { return c.carrier.Read(p) }
func (c carrierConn) Write(p []byte) (int, error)        { return c.carrier.Write(p) }
func (c carrierConn) Close() error                       { return c.carrier.Close() }
func (c carrierConn) SetWriteDeadline(t time.Time) error { c.setWriteDeadline(t); return nil }
