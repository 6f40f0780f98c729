package target

import (
	"net"
	"syscall"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// TestDeadTargetIsFound: without pings it is the system that finds out, from both
// ends of a silence: nothing comes, or nothing is acknowledged.
func TestDeadTargetIsFound(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	e, _ := parseTarget("h2c://"+ln.Addr().String(), newDialer())
	conn, err := dialPlain(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	limitUnacknowledged(newConn(conn)) // through a layer
	raw, err := netconn.Bottom(conn).(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for _, o := range []struct {
			name                string
			level, option, want int
		}{
			{"SO_KEEPALIVE", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
			{"TCP_KEEPINTVL", syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
			{"TCP_KEEPCNT", syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 3},
			{"TCP_USER_TIMEOUT", syscall.IPPROTO_TCP, tcpUserTimeout, 30_000},
		} {
			if got, err := syscall.GetsockoptInt(int(fd), o.level, o.option); err != nil || got != o.want {
				t.Errorf("%s is %d, %v; want %d", o.name, got, err, o.want)
			}
		}
	})
}
