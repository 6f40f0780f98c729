//go:build linux || darwin

package h2conn

import "golang.org/x/sys/unix"

// setNotSentLowat is best effort: without it only slow links are worse off.
func setNotSentLowat(fd uintptr, n int) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, n)
}
