//go:build unix

package server

import (
	"math"
	"syscall"
)

// openFiles returns how many files the process may have open, or 0 if that is
// not known or more than would ever be needed.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || uint64(limit.Cur) > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur)
}
