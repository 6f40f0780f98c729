//go:build unix

package reliability

import (
	"syscall"
	"testing"
)

// openFiles raises the limit for open files as far as it goes and returns it.
func openFiles(t *testing.T) int {
	t.Helper()
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	lim.Cur = lim.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	return int(min(lim.Cur, 1<<20))
}
