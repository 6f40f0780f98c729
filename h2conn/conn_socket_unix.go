//go:build linux || darwin

package h2conn

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// setNotSentLowat is best effort: without it only slow links are worse off.
func setNotSentLowat(fd uintptr, n int) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

const canWriteOnce = true

const canReadOnce = true

// readSocket reads from fd without waiting. It reports false if nothing is there. It
// returns no error at the end.
func readSocket(fd uintptr, p []byte) (n int, ok bool, err error) {
	n, err = netconn.ReadNow(fd, p)
	if errors.Is(err, unix.EAGAIN) {
		return 0, false, nil
	}
	return n, true, os.NewSyscallError("read", err)
}

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
