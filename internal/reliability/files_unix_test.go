//go:build unix

package reliability

import (
	"syscall"
	"testing"
)

// openFiles raises the limit for open files as far as it goes, which is further
// for root, and returns it.
func openFiles(t *testing.T) int {
	t.Helper()
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	const enough = 1 << 16
	more := syscall.Rlimit{Cur: max(lim.Max, enough), Max: max(lim.Max, enough)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more); err == nil {
		lim = more
	} else {
		lim.Cur = lim.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
			t.Fatal(err)
		}
	}
	return int(min(lim.Cur, 1<<20))
}
