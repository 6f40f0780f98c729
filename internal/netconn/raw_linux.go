//go:build linux && !race

package netconn

import (
	"syscall"
	"unsafe"
)

const canRaw = true

// ReadNow reads from a socket that does not block. Of a short read Go's scheduler is not
// told where [AllowRaw] says so. It returns [syscall.EAGAIN] if nothing is there.
func ReadNow(fd uintptr, p []byte) (int, error) {
	if len(p) > maxRaw || !rawAllowed.Load() {
		return now(func() (int, error) { return syscall.Read(int(fd), p) })
	}
	return rawCall(syscall.SYS_READ, fd, p)
}

// WriteNow writes to a socket in the same way. It returns [syscall.EAGAIN] if there is no
// room.
func WriteNow(fd uintptr, p []byte) (int, error) {
	if len(p) > maxRaw || !rawAllowed.Load() {
		return now(func() (int, error) { return syscall.Write(int(fd), p) })
	}
	return rawCall(syscall.SYS_WRITE, fd, p)
}

func rawCall(trap, fd uintptr, p []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}
