//go:build darwin || (linux && race)

package netconn

import "syscall"

const canRaw = false

// ReadNow reads from a socket that does not block. It returns [syscall.EAGAIN] if nothing
// is there.
func ReadNow(fd uintptr, p []byte) (int, error) {
	return now(func() (int, error) { return syscall.Read(int(fd), p) })
}

// WriteNow writes to a socket that does not block. It returns [syscall.EAGAIN] if there is
// no room.
func WriteNow(fd uintptr, p []byte) (int, error) {
	return now(func() (int, error) { return syscall.Write(int(fd), p) })
}
