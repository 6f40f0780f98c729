//go:build linux || darwin

package h2conn

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// setNotSentLowat is best effort: without it only slow links are worse off.
func setNotSentLowat(fd uintptr, n int) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

const canWriteOnce = true

const canReadOnce = true

func (w *onceWriter) write(fd uintptr) bool {
	if len(w.pieces[0]) == 0 {
		w.n, _ = netconn.WriteNow(fd, w.pieces[1])
		return true
	}
	for {
		n, err := unix.Writev(int(fd), w.pieces[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		w.n = max(n, 0)
		return true
	}
}
