package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// relaySettings describe a link and are those of the role relay.
type relaySettings struct {
	To    string        `json:"to"`    // address that connections are passed on to
	Delay time.Duration `json:"delay"` // each way
	Rate  int           `json:"rate"`  // bytes per second each way; 0: as fast as it goes
	Queue time.Duration `json:"queue"` // longest queue in front of the link, as time at Rate
}

func runRelay(ctx context.Context, s relaySettings) error {
	r := newRelay(s)
	l, err := r.listenConfig().Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"addr\":%q}\n", l.Addr())
	return r.serve(ctx, l)
}

// relay passes TCP connections on over an imagined link, which all of them
// share: one queue each way, first come, first served. Nothing is dropped: as
// long as the queue is full, nothing is read, so that the sender's own buffer
// fills, as it does behind a modem with a large buffer.
type relay struct {
	settings relaySettings
	there    link
	back     link
}

func newRelay(s relaySettings) *relay {
	return &relay{settings: s, there: link{rate: s.Rate, queue: s.Queue}, back: link{rate: s.Rate, queue: s.Queue}}
}

const (
	// relayKernelBuffer bounds the data that the kernel holds in front of a slow
	// link, in addition to the link's own queue.
	relayKernelBuffer = 16 << 10

	// relayInFlight bounds the bytes of one connection that are on the way.
	relayInFlight = 256 << 20
)

// control makes the kernel's receive buffer small on a slow link. It is set
// before the connection begins, because it decides about the TCP window.
func (r *relay) control(_, _ string, c syscall.RawConn) error {
	if r.settings.Rate == 0 {
		return nil
	}
	var failed error
	err := c.Control(func(fd uintptr) { failed = setReceiveBuffer(fd, relayKernelBuffer) })
	return errors.Join(err, failed)
}

func (r *relay) listenConfig() *net.ListenConfig { return &net.ListenConfig{Control: r.control} }

// serve relays the connections that l accepts, until ctx ends.
func (r *relay) serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		near, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		wg.Go(func() {
			defer near.Close()
			far, err := (&net.Dialer{Control: r.control}).DialContext(ctx, "tcp", r.settings.To)
			if err != nil {
				return
			}
			defer far.Close()
			defer context.AfterFunc(ctx, func() { near.Close(); far.Close() })()
			var both sync.WaitGroup
			both.Go(func() { r.pass(ctx, &r.there, far, near) })
			both.Go(func() { r.pass(ctx, &r.back, near, far) })
			both.Wait()
		})
	}
}

// pass moves data from src to dst over a link. It ends both ways of the
// connection if something fails, and passes a clean end on.
func (r *relay) pass(ctx context.Context, way *link, dst, src net.Conn) {
	size := 64 << 10
	if way.rate > 0 {
		size = 1460
		if c, ok := dst.(*net.TCPConn); ok {
			_ = c.SetNoDelay(true)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	flight := newFlight(relayInFlight)
	defer context.AfterFunc(ctx, flight.close)()

	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			data, due, ok := flight.next()
			if !ok {
				break
			}
			if pause(ctx, time.Until(due)) != nil {
				return
			}
			if _, err := dst.Write(data); err != nil {
				src.Close()
				cancel()
				return
			}
		}
		if c, ok := dst.(*net.TCPConn); ok && ctx.Err() == nil {
			_ = c.CloseWrite()
		}
	})
	for pause(ctx, way.wait(time.Now())) == nil {
		buf := make([]byte, size)
		n, err := src.Read(buf)
		if n > 0 {
			leaves := way.send(time.Now(), n)
			if !flight.put(buf[:n:n], leaves.Add(r.settings.Delay)) {
				break
			}
		}
		if err != nil {
			flight.finish()
			break
		}
	}
	wg.Wait()
}

// link is one direction of the wire. It knows when its queue will be empty.
type link struct {
	rate  int
	queue time.Duration

	mu   sync.Mutex
	free time.Time
}

// wait returns how long it takes until the queue has room again.
func (l *link) wait(now time.Time) time.Duration {
	if l.rate == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.free.Add(-l.queue)
	if !full.After(now) {
		return 0
	}
	return full.Sub(now)
}

// send puts n bytes into the queue and returns when the last of them leaves.
func (l *link) send(now time.Time, n int) time.Time {
	if l.rate == 0 {
		return now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.free.Before(now) {
		l.free = now
	}
	l.free = l.free.Add(time.Duration(n) * time.Second / time.Duration(l.rate))
	return l.free
}

// flight holds the data of one connection that is on the way, in order and
// bounded in bytes.
type flight struct {
	mu       sync.Mutex
	changed  sync.Cond
	pieces   []piece
	size     int
	most     int
	finished bool // nothing more comes
	closed   bool // nothing more goes
}

type piece struct {
	data []byte
	due  time.Time
}

func newFlight(most int) *flight {
	f := &flight{most: most}
	f.changed.L = &f.mu
	return f
}

// put waits for room and reports whether the piece is on the way.
func (f *flight) put(data []byte, due time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.size > 0 && f.size+len(data) > f.most && !f.closed {
		f.changed.Wait()
	}
	if f.closed {
		return false
	}
	f.pieces = append(f.pieces, piece{data, due})
	f.size += len(data)
	f.changed.Broadcast()
	return true
}

// next waits for the next piece. At the end of all, ok is false.
func (f *flight) next() (data []byte, due time.Time, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.pieces) == 0 && !f.finished && !f.closed {
		f.changed.Wait()
	}
	if len(f.pieces) == 0 || f.closed {
		return nil, time.Time{}, false
	}
	p := f.pieces[0]
	f.pieces[0] = piece{}
	f.pieces = f.pieces[1:]
	f.size -= len(p.data)
	f.changed.Broadcast()
	return p.data, p.due, true
}

func (f *flight) finish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finished = true
	f.changed.Broadcast()
}

func (f *flight) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.changed.Broadcast()
}
