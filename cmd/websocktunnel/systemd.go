package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
)

// firstActivated is the first file descriptor that systemd passes.
const firstActivated = 3

// activated returns the listeners that systemd has opened for this process
// (sd_listen_fds(3), socket activation), or none if it has not.
func activated() ([]net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	// Not for processes that this one may start.
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(name); err != nil {
			return nil, err
		}
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS %q: it must be a number of sockets", count)
	}
	var listeners []net.Listener
	for fd := firstActivated; fd < firstActivated+n; fd++ {
		f := os.NewFile(uintptr(fd), "LISTEN_FD_"+strconv.Itoa(fd))
		ln, err := net.FileListener(f)
		f.Close() // ln has its own copy
		if err != nil {
			closeAll(listeners)
			return nil, fmt.Errorf("LISTEN_FDS %q: file descriptor %d is not a listening stream socket: %w", count, fd, err)
		}
		listeners = append(listeners, ln)
	}
	return listeners, nil
}

func closeAll(listeners []net.Listener) {
	for _, ln := range listeners {
		ln.Close()
	}
}
