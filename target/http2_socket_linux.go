package target

import (
	"net"
	"syscall"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// tcpUserTimeout is TCP_USER_TIMEOUT, which package syscall does not name on every
// architecture.
const tcpUserTimeout = 18

// limitUnacknowledged makes the TCP connection under c, if there is one, end when
// the other side's system has not acknowledged what was sent for deadTimeout. That
// takes a quarter of an hour otherwise, and keepalive does not look meanwhile.
func limitUnacknowledged(c net.Conn) {
	tcp, ok := netconn.Bottom(c).(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(deadTimeout.Milliseconds()))
	})
}
