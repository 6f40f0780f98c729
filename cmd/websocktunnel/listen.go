package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// listen returns the listeners that systemd has passed, or otherwise its own one,
// and the port of the first.
func listen(c config) ([]net.Listener, int, error) {
	listeners, err := activated()
	if err != nil {
		return nil, 0, err
	}
	if len(listeners) == 0 {
		ln, err := net.Listen("tcp", net.JoinHostPort(c.addr, strconv.Itoa(c.port)))
		if err != nil {
			return nil, 0, listenError(c, err)
		}
		listeners = []net.Listener{ln}
	}
	port := c.port
	if a, ok := listeners[0].Addr().(*net.TCPAddr); ok && port == 0 {
		port = a.Port
	}
	return listeners, port, nil
}

// listenError adds what to do.
func listenError(c config, err error) error {
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("PORT %d: %w; choose a port above 1023, or give the program the capability CAP_NET_BIND_SERVICE", c.port, err)
	case portTaken(err):
		return fmt.Errorf("PORT %d: %w; choose another port, or stop the program that uses this one", c.port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("LISTEN_ADDR %q: %w; choose an address of this machine", c.addr, err)
	}
	return fmt.Errorf("LISTEN_ADDR %q, PORT %d: %w", c.addr, c.port, err)
}

// portTaken reports whether err says that another program has the port.
func portTaken(err error) bool {
	const wsaeaddrinuse = syscall.Errno(10048) // which Windows says instead
	return errors.Is(err, syscall.EADDRINUSE) || runtime.GOOS == "windows" && errors.Is(err, wsaeaddrinuse)
}

// sameAddress reports whether listeners on one port of these hosts, of which the
// empty one means all addresses, would be in each other's way. It asks no name server.
func sameAddress(a, b string) bool {
	x, y := hostIP(a), hostIP(b)
	switch {
	case x == nil || y == nil:
		return strings.EqualFold(a, b)
	case x.IsUnspecified() || y.IsUnspecified(): // of both families, as Go listens
		return true
	}
	return x.Equal(y)
}

// hostIP returns the address of a host to listen on, or nil for a name.
func hostIP(host string) net.IP {
	switch {
	case host == "":
		return net.IPv6unspecified
	case strings.EqualFold(host, "localhost"):
		return net.IPv4(127, 0, 0, 1) // which Go prefers
	}
	return net.ParseIP(host)
}
