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
