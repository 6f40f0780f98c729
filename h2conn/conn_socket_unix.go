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

// writeOnce returns the function for [syscall.RawConn.Write] that writes what p
// returns, or the beginning of it, without waiting, and sets n to how much that was.
func writeOnce(p func() []byte, n *int) func(fd uintptr) bool {
	return func(fd uintptr) bool {
		for {
			k, err := unix.Write(int(fd), p())
			if errors.Is(err, unix.EINTR) {
				continue
			}
			*n = max(k, 0)
			return true
		}
	}
}
