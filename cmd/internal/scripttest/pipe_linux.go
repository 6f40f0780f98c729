package scripttest

import (
	"os"

	"golang.org/x/sys/unix"
)

// shrink makes a pipe as small as can be, so that it is soon full.
func shrink(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 4096) }
