//go:build unix

package reliability

import "syscall"

// raiseOpenFiles raises the limit for open files as far as it goes, which is
// further for root, and returns it.
func raiseOpenFiles() (int, error) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		return 0, err
	}
	const enough = 1 << 16
	more := syscall.Rlimit{Cur: max(lim.Max, enough), Max: max(lim.Max, enough)}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &more); err == nil {
		lim = more
	} else {
		lim.Cur = lim.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
			return 0, err
		}
	}
	return int(min(lim.Cur, 1<<20)), nil
}
