//go:build unix

package accesslog

import "golang.org/x/sys/unix"

// mayWrite returns why the process may make no file in dir, or nil.
func mayWrite(dir string) error {
	return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}
