//go:build linux

package processes

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// checkInterval is how often a balancer looks whether its backends are well.
const checkInterval = 100 * time.Millisecond

// balancer is a TCP load balancer: each new connection goes to one of the
// backends whose /__lbheartbeat__ answers 200, in turn. Connections that are
// there stay where they are.
type balancer struct {
	addr string
	ln   net.Listener
	dial func(backend string) (net.Conn, error)

	mu      sync.Mutex
	well    map[string]bool // by backend; those that are not known are not there
	order   []string
	next    int
	changed chan struct{} // closed and replaced whenever one becomes well or unwell
	conns   map[net.Conn]struct{}
	closed  bool
	wg      sync.WaitGroup
}

func newBalancer(t testing.TB, backends ...string) *balancer {
	t.Helper()
	b := &balancer{
		ln: here.listen(t, newAddr()), well: make(map[string]bool), order: backends,
		changed: make(chan struct{}), conns: make(map[net.Conn]struct{}),
		dial: func(backend string) (net.Conn, error) { return net.DialTimeout("tcp", backend, patience) },
	}
	b.addr = b.ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	for _, backend := range backends {
		b.wg.Go(func() { b.check(ctx, backend) })
	}
	b.wg.Go(b.accept)
	t.Cleanup(func() {
		cancel()
		b.close()
	})
	return b
}

func (b *balancer) close() {
	b.ln.Close()
	b.mu.Lock()
	b.closed = true
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

func (b *balancer) check(ctx context.Context, backend string) {
	tr := &http.Transport{DisableKeepAlives: true}
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, 2*time.Second)
		status, _, err := get(attempt, &http.Client{Transport: tr}, "http://"+backend+"/__lbheartbeat__")
		cancel()
		b.set(backend, err == nil && status == 200)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (b *balancer) set(backend string, well bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.well[backend] != well {
		b.well[backend] = well
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

// await waits until the balancer uses a backend.
func (b *balancer) await(t testing.TB, backend string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		b.mu.Lock()
		well, changed := b.well[backend], b.changed
		b.mu.Unlock()
		if well {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s does not become well", backend)
		}
	}
}

func (b *balancer) accept() {
	for {
		c, err := b.ln.Accept()
		if err != nil {
			return
		}
		if b.hold(c) {
			b.wg.Go(func() { b.relay(c) })
		}
	}
}

// hold notes a connection that cleanup has to close.
func (b *balancer) hold(c net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		c.Close()
		return false
	}
	b.conns[c] = struct{}{}
	return true
}

func (b *balancer) drop(c net.Conn) {
	c.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, c)
}

func (b *balancer) pick() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.order {
		b.next++
		if backend := b.order[b.next%len(b.order)]; b.well[backend] {
			return backend
		}
	}
	return ""
}

func (b *balancer) relay(c net.Conn) {
	defer b.drop(c)
	backend := b.pick()
	if backend == "" {
		return
	}
	up, err := b.dial(backend)
	if err != nil || !b.hold(up) {
		return
	}
	defer b.drop(up)
	var wg sync.WaitGroup
	wg.Go(func() { pump(up, c) })
	pump(c, up)
	wg.Wait()
}

// pump passes on bytes and how they end: an end as an end, a reset as a reset.
func pump(to, from net.Conn) {
	if _, err := io.Copy(to, from); err == nil {
		_ = to.(*net.TCPConn).CloseWrite()
		return
	}
	for _, c := range []net.Conn{to, from} {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}
