//go:build linux || darwin

package h2conn

import (
	"errors"

	"golang.org/x/sys/unix"
)

// setNotSentLowat is best effort: without it only slow links are worse off.
func setNotSentLowat(fd uintptr, n int) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}

const canWriteOnce = true

const canReadOnce = true

// readSocket reads from fd without waiting. It reports false if nothing is there.
func readSocket(fd uintptr, p []byte) (n int, ok bool) {
	for {
		n, err := unix.Read(int(fd), p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return n, !errors.Is(err, unix.EAGAIN)
	}
}

func (w *onceWriter) write(fd uintptr) bool {
	for {
		var n int
		var err error
		if len(w.pieces[0]) == 0 {
			n, err = unix.Write(int(fd), w.pieces[1])
		} else {
			n, err = unix.Writev(int(fd), w.pieces[:])
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		w.n = max(n, 0)
		return true
	}
}
