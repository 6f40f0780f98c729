package h2conn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPending limits what a combiner holds back: on a slow link, more would
	// delay all other streams.
	maxPending = 64 << 10

	// How much is written at a time: at first, and on a slow link.
	firstPiece = 16 << 10
	slowPiece  = 2 << 10

	// maxHold is how long a byte may have to wait for those that were accepted
	// before it. A link that does not take maxPending in that time gets less at
	// once, but never less than minQuantum.
	maxHold    = 10 * time.Millisecond
	minQuantum = 4 << 10

	// closeLinger is how long closing waits for bytes already accepted.
	closeLinger = 500 * time.Millisecond
)

var errWriteTimeout = errors.New("h2conn: the peer took no bytes within the write timeout")

// combineBuffers holds buffers of maxPending bytes, so that an idle
// connection holds none.
var combineBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, maxPending)
	return &b
}}

func putBuffer(b *[]byte) {
	*b = (*b)[:0]
	combineBuffers.Put(b)
}

// combiner gathers small writes into large ones. Write appends to a buffer
// and returns; a goroutine that lives only while there is something to write
// takes all that has gathered in one go. The websocket library flushes each
// masked 4 KiB, and HTTP/2 its HEADERS and its DATA: without this, each is a
// system call.
//
// Since Write returns before its bytes have left, three things are different
// from a plain connection. The combiner's own timeout finds a stuck peer and closes
// w: it is the connection's only limit for a stuck write. An error comes with a later
// Write. And Close waits a moment for bytes that are still here.
type combiner struct {
	w       io.WriteCloser
	timeout time.Duration // of one flush; zero: none

	// quantum is how many bytes the link takes within maxHold, as far as is
	// known, between minQuantum and maxPending.
	quantum atomic.Int32
	pace    pace // owned by the goroutine that flushes

	mu       sync.Mutex
	pending  *[]byte // nil when empty
	flushing bool
	err      error         // sticky
	deadline time.Time     // of waitRoom
	changed  chan struct{} // non-nil while somebody waits; closed at the next change
}

func newCombiner(w io.WriteCloser, timeout time.Duration) *combiner {
	c := &combiner{w: w, timeout: timeout}
	c.quantum.Store(maxPending)
	return c
}

// Write accepts all of p, waiting for room while more than maxPending bytes
// are held back.
func (c *combiner) Write(p []byte) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.err != nil {
			return n, c.err
		}
		if len(p) == 0 {
			return n, nil
		}
		if c.pending == nil {
			c.pending = combineBuffers.Get().(*[]byte)
		}
		k := min(len(p), maxPending-len(*c.pending))
		if k == 0 {
			c.waitLocked(nil)
			continue
		}
		*c.pending = append(*c.pending, p[:k]...)
		p, n = p[k:], n+k
		if !c.flushing {
			c.flushing = true
			go c.flush()
		}
	}
}

// waitLocked waits for the next change of state, or until expired.
func (c *combiner) waitLocked(expired <-chan time.Time) {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	changed := c.changed
	c.mu.Unlock()
	defer c.mu.Lock()
	select {
	case <-changed:
	case <-expired:
	}
}

// waitRoom waits until n bytes, at most maxPending, can be written without
// blocking and without being held for long, or until the write deadline.
func (c *combiner) waitRoom(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.err != nil {
			return c.err
		}
		var expired <-chan time.Time
		if !c.deadline.IsZero() {
			d := time.Until(c.deadline)
			if d <= 0 {
				return os.ErrDeadlineExceeded
			}
			if !c.roomLocked(n) {
				t := time.NewTimer(d)
				defer t.Stop()
				expired = t.C
			}
		}
		if c.roomLocked(n) {
			return nil
		}
		c.waitLocked(expired)
	}
}

func (c *combiner) roomLocked(n int) bool {
	return c.pending == nil || int(c.quantum.Load())-len(*c.pending) >= n
}

// A pace learns how fast a link is. What a single write takes says little: it
// may have found room in the kernel. So it counts until there is enough.
type pace struct {
	bytes int           // written …
	took  time.Duration // … in that time
}

// wrote notes that a write of n bytes has taken d and, every now and then,
// adapts the quantum.
func (p *pace) wrote(n int, d time.Duration, quantum *atomic.Int32) {
	p.bytes += n
	p.took += d
	if p.took < maxHold && p.bytes < maxPending {
		return
	}
	q := int64(maxPending)
	if p.took > 0 {
		q = min(int64(p.bytes)*int64(maxHold)/int64(p.took), maxPending)
	}
	// Up by doubling: a slow link takes a burst now and then.
	quantum.Store(int32(max(min(q, 2*int64(quantum.Load())), minQuantum)))
	*p = pace{}
}

func (c *combiner) changedLocked() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// flush writes until nothing is pending.
func (c *combiner) flush() {
	var timer *time.Timer
	if c.timeout > 0 {
		timer = time.AfterFunc(c.timeout, func() { _ = c.abort(errWriteTimeout) })
		defer timer.Stop()
	}
	piece := firstPiece
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.pending != nil && c.err == nil {
		buf := c.pending
		c.pending = nil
		c.changedLocked()
		c.mu.Unlock()

		var err error
		for rest := *buf; len(rest) > 0 && err == nil; {
			begun := time.Now()
			p := rest[:min(len(rest), piece)]
			_, err = c.w.Write(p)
			rest = rest[len(p):]
			c.pace.wrote(len(p), time.Since(begun), &c.quantum)
			if timer != nil {
				timer.Reset(c.timeout)
				// The timeout is about no progress at all: on a slow link
				// that can be seen in small pieces only.
				switch took := time.Since(begun); {
				case took > c.timeout/10:
					piece = max(piece/4, slowPiece)
				case took < c.timeout/100:
					piece = min(piece*2, maxPending)
				}
			}
		}
		putBuffer(buf)

		c.mu.Lock()
		if err != nil && c.err == nil {
			c.err = err
		}
	}
	c.flushing = false
	c.changedLocked()
}

// setWriteDeadline bounds the time that waitRoom waits.
func (c *combiner) setWriteDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	c.changedLocked()
}

// Close waits a moment for pending bytes to leave and closes w.
func (c *combiner) Close() error {
	end := time.Now().Add(closeLinger)
	linger := time.NewTimer(closeLinger)
	defer linger.Stop()
	c.mu.Lock()
	for c.flushing && c.err == nil && time.Until(end) > 0 {
		c.waitLocked(linger.C)
	}
	c.mu.Unlock()
	return c.abort(os.ErrClosed)
}

// abort closes w at once. The first error is what later writes report.
func (c *combiner) abort(err error) error {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	if c.pending != nil {
		putBuffer(c.pending)
		c.pending = nil
	}
	c.changedLocked()
	c.mu.Unlock()
	return c.w.Close()
}

// cause returns the error that writing ended with, unless it is only that
// this end closed.
func (c *combiner) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.err, os.ErrClosed) || errors.Is(c.err, net.ErrClosed) {
		return nil
	}
	return c.err
}
