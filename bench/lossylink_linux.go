package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Addresses of the ends, from a range that is meant for benchmarks (RFC 2544).
// All links have the same, since each has namespaces of its own.
const (
	nearHost = "198.18.0.1"
	farHost  = "198.18.0.2"
)

// lossyLinkPossible reports why a lossy link cannot be made.
func lossyLinkPossible() error {
	if os.Geteuid() != 0 {
		return errors.New("it needs root, for network namespaces and TUN devices")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("it needs TUN devices: %w", err)
	}
	nothing := func() error { return nil }
	if err := elsewhere(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, nothing); err != nil {
		return fmt.Errorf("it needs network namespaces: %w", err)
	}
	if !congestionAllowed(cubic) {
		return errors.New("it needs " + cubic + " among net.ipv4.tcp_allowed_congestion_control")
	}
	return nil
}

// congestionAllowed reports whether a namespace may use an algorithm of the
// kernel's: one that only root may choose cannot be the default of a namespace.
func congestionAllowed(name string) bool {
	allowed, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
	return slices.Contains(strings.Fields(string(allowed)), name)
}

// runLossyLink makes two network namespaces with a TUN device in each, and
// carries the packets between them. The kernel's own TCP runs at both ends.
func runLossyLink(ctx context.Context, s lossyLinkSettings) error {
	near, err := newLinkEnd(nearHost, s.Congestion)
	if err != nil {
		return err
	}
	defer near.close()
	far, err := newLinkEnd(farHost, s.Congestion)
	if err != nil {
		return err
	}
	defer far.close()
	if err := report(lossyLinkEnds{Near: near.place(), Far: far.place()}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { near.device.Close(); far.device.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { carryPackets(ctx, s, far.device, near.device) })
	wg.Go(func() { carryPackets(ctx, s, near.device, far.device) })
	wg.Wait()
	return ctx.Err()
}

// linkEnd is one end of a lossy link: a namespace and the device in it.
type linkEnd struct {
	host      string
	namespace *os.File
	device    *os.File
}

// newLinkEnd makes a namespace and a device that is up.
func newLinkEnd(host, congestion string) (*linkEnd, error) {
	e := &linkEnd{host: host}
	made := make(chan error)
	go func() {
		// The thread belongs to the new namespace and ends with this goroutine,
		// which never unlocks it. This process starts no others, which would be
		// killed with the thread.
		runtime.LockOSThread()
		made <- e.make(congestion)
	}()
	if err := <-made; err != nil {
		e.close()
		return nil, fmt.Errorf("cannot make an end of a link: %w", err)
	}
	return e, nil
}

func (e *linkEnd) make(congestion string) error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	var err error
	if e.namespace, err = os.Open("/proc/thread-self/ns/net"); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_congestion_control", []byte(congestion), 0); err != nil {
		return fmt.Errorf("TCP congestion control %q: %w", congestion, err)
	}
	if e.device, err = openTUN("link"); err != nil {
		return fmt.Errorf("TUN device: %w", err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	address := func(ip string) func(*unix.Ifreq) error {
		return func(r *unix.Ifreq) error { return r.SetInet4Addr(net.ParseIP(ip).To4()) }
	}
	up := func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }
	// The device's own queue is read at once. A short one would drop packets
	// that the link does not.
	long := func(r *unix.Ifreq) error { r.SetUint32(10_000); return nil }
	for _, step := range []struct {
		device  string
		request uint
		set     func(*unix.Ifreq) error
	}{
		{"lo", unix.SIOCSIFFLAGS, up},
		{"link", unix.SIOCSIFTXQLEN, long},
		{"link", unix.SIOCSIFADDR, address(e.host)},
		{"link", unix.SIOCSIFNETMASK, address("255.255.255.252")},
		{"link", unix.SIOCSIFFLAGS, up},
	} {
		r, err := unix.NewIfreq(step.device)
		if err == nil {
			err = step.set(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, step.request, r)
		}
		if err != nil {
			return fmt.Errorf("device %s, request %#x: %w", step.device, step.request, err)
		}
	}
	return nil
}

// openTUN makes a TUN device in the thread's namespace, where it stays. Its
// packets have no offloads: the kernel cuts segments itself.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	r, err := unix.NewIfreq(name)
	if err == nil {
		r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, r)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// place returns e as other processes reach it while this one runs.
func (e *linkEnd) place() place {
	return place{Namespace: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), e.namespace.Fd()), Host: e.host}
}

func (e *linkEnd) close() {
	if e.device != nil {
		e.device.Close()
	}
	if e.namespace != nil {
		e.namespace.Close()
	}
}

// enterPlace takes the place of this process with a program in a namespace. args
// are the namespace's file, the address to listen at, the program and its
// arguments.
func enterPlace(args []string) error {
	if len(args) < 3 {
		return errors.New("enter: too few arguments")
	}
	// The thread that calls execve becomes the only one of the process.
	runtime.LockOSThread()
	if err := setNamespace(args[0]); err != nil {
		return err
	}
	return syscall.Exec(args[2], args[2:], append(os.Environ(), hostVariable+"="+args[1]))
}

func setNamespace(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespace %s: %w", name, err)
	}
	return nil
}

// dial connects to an address in p.
func (p place) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	if p.Namespace == "" {
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	err = elsewhere(func() error { return setNamespace(p.Namespace) }, func() error {
		// A socket stays in the namespace in which it was made, and the one for an
		// address in digits is made by this goroutine.
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// elsewhere calls f in the network namespace that enter changes to.
func elsewhere(enter, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer own.Close()
	if err := enter(); err != nil {
		return err
	}
	// The thread is needed again: if it ended, the kernel would kill the processes
	// that it has started.
	defer func() {
		if err := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("bench: no way back from a network namespace: %v", err))
		}
	}()
	return f()
}
