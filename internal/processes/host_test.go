//go:build linux

package processes

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// host is where processes and sockets are made: this machine, or a network
// namespace of its own. It is one thread, because a namespace belongs to a
// thread and goes on to what the thread starts; when the last process is gone
// too, the namespace and the devices in it vanish. And because processes are
// killed when the thread that has started them ends, none outlives the tests.
type host struct {
	tid   int
	calls chan func()
	done  chan struct{}
}

func newHost(apart bool) (*host, error) {
	h := &host{calls: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(h.done)
		runtime.LockOSThread() // and never unlocked: the thread is to end with the goroutine
		h.tid = syscall.Gettid()
		if apart {
			if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
				ready <- fmt.Errorf("unshare: %w", err)
				return
			}
		}
		ready <- nil
		for f := range h.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	return h, nil
}

func (h *host) close() {
	close(h.calls)
	<-h.done
}

// do calls f on the host's thread. It must not take long.
func (h *host) do(f func()) {
	done := make(chan struct{})
	h.calls <- func() { defer close(done); f() }
	<-done
}

func (h *host) listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	var ln net.Listener
	var err error
	h.do(func() { ln, err = net.Listen("tcp", addr) })
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// dial opens a connection to an address of the host itself.
func (h *host) dial(_ context.Context, _, addr string) (c net.Conn, err error) {
	h.do(func() { c, err = net.DialTimeout("tcp", addr, patience) })
	return c, err
}

// run runs a command to its end.
func (h *host) run(t testing.TB, command string) {
	t.Helper()
	if err := h.try(command); err != nil {
		t.Fatal(err)
	}
}

// try runs a command there.
func (h *host) try(command string) error {
	args := strings.Fields(command)
	path, err := exec.LookPath(args[0])
	if err != nil {
		path = "/usr/sbin/" + args[0] // not in everybody's PATH
	}
	var out []byte
	h.do(func() { out, err = exec.Command(path, args[1:]...).CombinedOutput() })
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", command, err, out)
	}
	return nil
}

// The two ends of a cable.
const (
	serviceSide = "10.99.0.1"
	clientSide  = "10.99.0.2"
)

var (
	addresses = [2]string{serviceSide, clientSide}
	hardware  = [2]string{"02:00:00:00:00:01", "02:00:00:00:00:02"}
)

// newCable returns two hosts, the service's and the clients', that are joined by
// a cable and by nothing else.
// The network device at either end of it is called "cable".
func newCable(t *testing.T) (ends [2]*host) {
	t.Helper()
	skip := func(why any) {
		t.Skipf("*** SKIPPED: network namespaces need root and iproute2: %v", why)
	}
	if os.Geteuid() != 0 {
		skip("not root")
	}
	for _, name := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(name); err != nil {
			if _, err := os.Stat("/usr/sbin/" + name); err != nil {
				skip(err)
			}
		}
	}
	for i := range ends {
		h, err := newHost(true)
		if err != nil {
			skip(err)
		}
		t.Cleanup(h.close)
		ends[i] = h
	}
	ends[0].run(t, "ip link add cable type veth peer name cable netns "+strconv.Itoa(ends[1].tid))
	for i, h := range ends {
		h.run(t, "ip address add "+addresses[i]+"/24 dev cable")
		h.run(t, "ip link set cable address "+hardware[i])
		h.run(t, "ip link set lo up")
		h.run(t, "ip link set cable up")
	}
	return ends
}

// cut makes each end send to somebody who does not exist. No machine can know
// that, for all of its own network is as it was.
func cut(t *testing.T, ends [2]*host) time.Time {
	t.Helper()
	for i, h := range ends {
		h.neighbour(t, addresses[1-i], "02:00:00:00:00:99")
	}
	return time.Now()
}

// mend takes back cut.
func mend(t *testing.T, ends [2]*host) time.Time {
	t.Helper()
	for i, h := range ends {
		h.neighbour(t, addresses[1-i], hardware[1-i])
	}
	return time.Now()
}

func (h *host) neighbour(t *testing.T, addr, hardware string) {
	t.Helper()
	h.run(t, "ip neighbour replace "+addr+" lladdr "+hardware+" nud permanent dev cable")
}

// unplug takes the cable out at the clients' end: this one can know, the other
// cannot.
func unplug(t *testing.T, ends [2]*host) time.Time {
	t.Helper()
	ends[1].run(t, "ip link set cable down")
	return time.Now()
}

// plug takes back unplug.
func plug(t *testing.T, ends [2]*host) time.Time {
	t.Helper()
	ends[1].run(t, "ip link set cable up")
	return time.Now()
}
