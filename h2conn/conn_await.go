package h2conn

import (
	"errors"
	"net"
	"os"
	"syscall"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// socketWait reads the first bytes after a rest from a TCP connection, and waits for them
// with less on the stack than a Read of the connection takes. A stack of 8 KiB shrinks
// where less than 1248 bytes are in use, and nothing else keeps so many goroutines waiting.
type socketWait struct {
	raw   syscall.RawConn
	ready func(fd uintptr) bool // made once: for raw.Read
	sees  netconn.ReadObserver  // nil: no layer has to see reads
}

// waitsOn returns how to wait for what comes from conn, or nil if that is no TCP
// connection, if layers between change what is read, or if the system cannot do that.
func waitsOn(conn net.Conn, c *carrier) *socketWait {
	if !canReadOnce {
		return nil
	}
	w := &socketWait{raw: directRaw(conn), ready: c.readOnce}
	source := netconn.Source(conn)
	if layer, ok := source.(netconn.ReadObserver); ok {
		w.sees, source = layer, netconn.Beneath(source)
	}
	if w.raw == nil || netconn.HasPassThrough(source) { // only one layer can be told
		return nil
	}
	return w
}

// beginWait reports whether there is something to wait for. Then w.raw.Read(w.ready) and
// endWait have to follow.
func (c *carrier) beginWait() bool {
	c.reading <- struct{}{}
	if !c.lacks() {
		<-c.reading
		return false
	}
	c.putBuffer()
	if sees := c.await.sees; sees != nil {
		sees.ReadBegins()
	}
	return true
}

func (c *carrier) endWait() {
	n := len(c.ahead)
	if sees := c.await.sees; sees != nil {
		sees.ReadEnded(n)
	}
	c.flood.arrived(n)
	<-c.reading
}

// readOnce reads ahead what is there, and reports false if there is nothing yet. Read has
// its error.
func (c *carrier) readOnce(fd uintptr) bool {
	buffer := readBuffers.Get().(*[readAheadSize]byte)
	room := buffer[:]
	if c.bulk {
		room = room[:bulkAhead]
	}
	n, err := netconn.ReadNow(fd, room)
	if n <= 0 {
		readBuffers.Put(buffer)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		c.failed = os.NewSyscallError("read", err)
		return true
	}
	c.buffer, c.ahead = buffer, room[:n]
	c.more, c.bulk = n == len(room), false
	return true
}
