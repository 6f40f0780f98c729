package netconn

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// maxRaw is how much may be read or written at a time without telling Go's scheduler:
// copying more takes so long that another thread should go on meanwhile.
const maxRaw = 32 << 10

// AllowRaw says whether [Raw], [ReadNow] and [WriteNow] may do without Go's scheduler from
// now on, which they may not at first. It is for programs whose goroutines all compute
// little at a time: see [Raw].
func AllowRaw(allow bool) { rawAllowed.Store(allow && canRaw) }

var rawAllowed atomic.Bool

// Raw returns c with short reads and writes of which Go's scheduler is not told
// ([syscall.RawSyscall]), if [AllowRaw] says so. Go's sockets never block in them, so there
// is no need. And in a process that rests between two requests telling costs more than the
// call: it wakes up the runtime's monitor (sysmon in runtime/proc.go), a thread that then
// looks every 20 µs for what blocks, and may give the processor away in a write.
//
// So the monitor sleeps on until the next timer or other system call. Meanwhile nothing
// interrupts a goroutine that computes for more than 10 ms, and where it has the only
// processor, others wait for it.
//
// Raw returns c itself where c is no TCP or unix connection, where the system is not
// Linux, and with the race detector, which takes a write and a read of a socket for
// synchronisation only if they are package syscall's.
func Raw(c net.Conn) net.Conn {
	_, tcp := c.(*net.TCPConn)
	_, unix := c.(*net.UnixConn)
	if !rawAllowed.Load() || !tcp && !unix {
		return c
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return c // it is closed, which its first Read tells
	}
	return &rawConn{Layer{c}, raw}
}

// RawDialer returns a DialContext that connects as d does, and whose connections are [Raw].
func RawDialer(d *net.Dialer) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return Raw(c), nil
	}
}

type rawConn struct {
	Layer
	raw syscall.RawConn
}

// SyscallConn implements [syscall.Conn] with the one that there is.
func (c *rawConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

func (c *rawConn) Read(p []byte) (int, error) {
	if len(p) == 0 || len(p) > maxRaw {
		return c.Conn.Read(p)
	}
	t := transfers.Get().(*transfer)
	t.p = p
	n, err := t.end(c.raw.Read(t.read))
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, c.asOp("read", err)
}

func (c *rawConn) Write(p []byte) (int, error) {
	if len(p) == 0 || len(p) > maxRaw {
		return c.Conn.Write(p)
	}
	t := transfers.Get().(*transfer)
	t.p = p
	n, err := t.end(c.raw.Write(t.write))
	return n, c.asOp("write", err)
}

// asOp returns err as package net would have it.
func (c *rawConn) asOp(op string, err error) error {
	if err == nil {
		return nil
	}
	var failed *net.OpError
	if errors.As(err, &failed) {
		failed.Op = op // the RawConn has made it for this call
		return err
	}
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		local := c.LocalAddr()
		return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
	}
	return err
}

// transfer is a Read or Write that is under way.
type transfer struct {
	p           []byte
	n           int
	err         error
	read, write func(fd uintptr) bool // for a [syscall.RawConn]; made once
}

var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.read, t.write = t.readSome, t.writeAll
	return t
}}

// end returns how much t has done and what has ended it, if not err, and gives t back.
func (t *transfer) end(err error) (int, error) {
	n := t.n
	if err == nil {
		err = t.err
	}
	t.p, t.n, t.err = nil, 0, nil
	transfers.Put(t)
	return n, err
}

func (t *transfer) readSome(fd uintptr) bool {
	n, err := ReadNow(fd, t.p)
	if errors.Is(err, syscall.EAGAIN) {
		return false
	}
	t.n, t.err = n, err
	return true
}

func (t *transfer) writeAll(fd uintptr) bool {
	for t.n < len(t.p) {
		n, err := WriteNow(fd, t.p[t.n:])
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		t.n += n
		if err != nil {
			t.err = err
			break
		}
	}
	return true
}

// now repeats a system call that a signal has interrupted.
func now(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
