package h2conn

import (
	"net"
	"syscall"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// maxUnsent is how many bytes the kernel may hold for a connection that it has
// not sent yet. Its send buffer grows to megabytes by itself, which on a slow
// link is minutes of waiting for everything behind a download, pings included.
// What has been sent and not yet acknowledged is not limited by it, so that
// long links fill all the same.
const maxUnsent = 32 << 10

// fastUnsent is the same on a fast link.
const fastUnsent = bulkQuantum

// limitUnsent applies maxUnsent to the TCP connection under conn, if there is
// one and the system can do that. It returns what changes that later; nil: nothing can.
func limitUnsent(conn net.Conn) func(n int) {
	raw := rawOf(conn)
	if raw == nil {
		return nil
	}
	limit := func(n int) { _ = raw.Control(func(fd uintptr) { setNotSentLowat(fd, n) }) }
	limit(maxUnsent)
	return limit
}

// rawOf returns how to reach the socket under conn, or nil if there is none.
func rawOf(conn net.Conn) syscall.RawConn {
	c, ok := netconn.Find[syscall.Conn](conn)
	if !ok {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil // it is closed
	}
	return raw
}

// directRaw is rawOf for a TCP connection with which no layer above does anything; otherwise
// it returns nil.
func directRaw(conn net.Conn) syscall.RawConn {
	if netconn.Socket(conn) == nil {
		return nil
	}
	return rawOf(conn)
}

// directWriter returns what writes two pieces of bytes to the TCP connection under conn,
// as much as it takes at once, or nil if there is none, if layers between change what is
// written, or if the system cannot do that.
func directWriter(conn net.Conn) func(head, p []byte) int {
	if !canWriteOnce {
		return nil
	}
	raw := directRaw(conn)
	if raw == nil {
		return nil
	}
	w := new(onceWriter)
	write := w.write // made once, not with each write
	return func(head, p []byte) int {
		w.pieces, w.n = [2][]byte{head, p}, 0
		_ = raw.Write(write) // an error comes again with the next blocking write
		w.pieces = [2][]byte{}
		return w.n
	}
}

// onceWriter writes pieces, or the beginning of them, without waiting, and sets n to how
// much that was. Its write is for [syscall.RawConn.Write].
type onceWriter struct {
	pieces [2][]byte
	n      int
}
