//go:build unix

package processors

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns how much CPU time the process has used, and whether that is known.
func cpuTime() (time.Duration, bool) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime)), true
}
