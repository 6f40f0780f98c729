package h2conn

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPending is the most that a combiner holds back: several messages of maxQuantum
	// together. That of an answering end, which gathers larger ones, holds back
	// maxBulkPending, and so much is left at most of one that the kernel has not taken.
	maxPending     = maxQuantum + frameHeaderLen + maxFrameOverhead
	maxBulkPending = bulkQuantum + frameHeaderLen + maxFrameOverhead

	// How much is written at a time: at first, and on a slow link.
	firstPiece = 16 << 10
	slowPiece  = 2 << 10

	// maxHold is how long a byte may have to wait for those that were accepted
	// before it. A link that does not take maxQuantum in that time gets less at
	// once, but never less than minQuantum.
	maxHold    = 10 * time.Millisecond
	maxQuantum = 64 << 10
	minQuantum = 4 << 10

	// A link is fast that has taken fastBytes within fastTime, which is more than the
	// kernel holds. Then the kernel may hold more, and messages are larger: each of them,
	// and each wait, costs time of its own.
	fastBytes   = 1 << 20
	fastTime    = 40 * time.Millisecond
	bulkQuantum = askingMaxFrameSize

	// directSize is how many bytes are worth a system call of their own.
	directSize = 16 << 10

	// closeLinger is how long closing waits for bytes already accepted.
	closeLinger = 500 * time.Millisecond
)

var errWriteTimeout = errors.New("h2conn: the peer took no bytes within the write timeout")

// combineBuffers holds buffers of maxPending bytes, and bulkBuffers of maxBulkPending, so
// that an idle connection holds none.
var combineBuffers, bulkBuffers = bufferPool(maxPending), bufferPool(maxBulkPending)

func bufferPool(size int) *sync.Pool {
	return &sync.Pool{New: func() any {
		b := make([]byte, 0, size)
		return &b
	}}
}

// getBuffer returns one for at least n bytes.
func (c *combiner) getBuffer(n int) *[]byte {
	if n > maxPending {
		return bulkBuffers.Get().(*[]byte)
	}
	return c.buffers.Get().(*[]byte)
}

func (c *combiner) putBuffer(b *[]byte) {
	*b = (*b)[:0]
	if cap(*b) < maxBulkPending {
		combineBuffers.Put(b)
	} else {
		bulkBuffers.Put(b)
	}
}

// combiner gathers small writes into large ones. A write appends to a buffer
// and returns; a goroutine that lives only while there is something to write
// takes all that has gathered in one go. Go would run it at once, before others that
// are ready to write, so it lets these go first. HTTP/2 flushes its HEADERS and its DATA:
// without this, each is a system call.
//
// What is large enough for a system call of its own is handed to the kernel by the one
// who writes it, which spares a wake-up. That never blocks: what the kernel does not
// take at once is left to the goroutine. Small writes gain nothing by that.
//
// Bytes that are written at a time stay together: messages come by writeMessage, and the
// websocket library's control frames by Write.
//
// Since a write returns before its bytes have left, three things are different
// from a plain connection. The combiner's own timeout finds a stuck peer and closes
// w: it is the connection's only limit for a stuck write. An error comes with a later
// write. And Close waits a moment for bytes that are still here.
type combiner struct {
	w       io.WriteCloser
	timeout time.Duration // of one flush; zero: none
	keys    *maskKeys     // of a client; guarded by mu
	buffers *sync.Pool    // for what is gathered

	// direct writes head and then p, each of which may be empty, to the socket of w, as
	// much as it takes without blocking, and returns how much that is. Guarded by mu, and
	// called only by the one who has set flushing. Nil: there is none.
	direct func(head, p []byte) int

	// whole says that a large message is written to w, where there is no direct, by the one
	// who makes it, who waits until w has taken it. Guarded by mu.
	whole bool

	// unsent lets the kernel hold this many bytes that it has not sent. Called only by
	// the one who has set flushing. Nil: nothing can be done about it.
	unsent func(n int)

	// several says that more than one may have something to write at the same time.
	several atomic.Bool

	// quantum is how many bytes the link takes within maxHold, as far as is
	// known, between minQuantum and maxQuantum, or bulkQuantum if that is much.
	quantum atomic.Int32
	pace    pace // owned by the one who has set flushing

	timer *time.Timer // of timeout; owned by the same; nil before the first flush

	mu       sync.Mutex
	head     [maxFrameOverhead]byte // of a message that is written through; owned by who has set flushing
	pending  *[]byte                // nil when empty
	flushing bool
	ended    bool          // a close frame has been written: no message follows it
	err      error         // sticky
	deadline time.Time     // of writeMessage
	changed  chan struct{} // non-nil while somebody waits; closed at the next change
}

func newCombiner(w io.WriteCloser, timeout time.Duration, masked bool) *combiner {
	c := &combiner{w: w, timeout: timeout, buffers: combineBuffers}
	if masked { // the answering end
		c.keys = new(maskKeys)
		c.buffers = bulkBuffers
	}
	c.quantum.Store(maxQuantum)
	return c
}

// Write accepts frames of the websocket library, waiting for room for all of p.
func (c *combiner) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.waitRoomLocked(len(p), maxQuantum, false); err != nil {
		return 0, err
	}
	b := c.bufferLocked(len(p))
	*b = append(*b, p...)
	c.ended = c.ended || isClose(p)
	c.startLocked()
	return len(p), nil
}

func isClose(p []byte) bool { return len(p) > 0 && p[0]&opMask == opClose }

// writeMessage accepts p, at most maxMessage bytes, as a message. It waits until
// that is not held back for long or, if the message is urgent, only for room; one
// that is not urgent waits no longer than until the write deadline.
func (c *combiner) writeMessage(op byte, p []byte, urgent bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := maxQuantum
	if !urgent {
		most = int(c.quantum.Load())
	}
	if err := c.waitRoomLocked(len(p)+maxFrameOverhead, most, !urgent); err != nil {
		return err
	}
	if c.ended {
		return net.ErrClosed
	}
	if c.keys == nil && c.pending == nil && !c.flushing && len(p) >= directSize {
		switch {
		case c.direct != nil:
			c.writeThroughLocked(op, p)
			return nil
		case c.whole && !urgent:
			c.writeWholeLocked(op, p)
			return nil
		}
	}
	b := c.bufferLocked(len(p) + maxFrameOverhead)
	*b = appendFrame(*b, op, p, c.keys)
	c.startLocked()
	return nil
}

// writeThroughLocked hands p to the kernel as a message, without a copy of what it takes.
func (c *combiner) writeThroughLocked(op byte, p []byte) {
	head := appendFrameHeader(c.head[:0], op, 0, len(p))
	direct := c.direct
	c.flushing = true
	c.mu.Unlock()
	n := direct(head, p)
	c.wrote(n, 0)
	var buf *[]byte
	var rest []byte
	if n < len(head)+len(p) {
		buf = c.getBuffer(len(head) + len(p) - n)
		*buf = append(append(*buf, head[min(n, len(head)):]...), p[max(n-len(head), 0):]...)
		rest = *buf
	}
	c.mu.Lock()
	c.triedLocked(buf, rest)
}

// writeWholeLocked writes p as a message, without a copy of it. What others write meanwhile
// is pending. An error comes with a later write, as ever.
func (c *combiner) writeWholeLocked(op byte, p []byte) {
	head := appendFrameHeader(c.head[:0], op, 0, len(p))
	c.flushing = true
	c.mu.Unlock()
	err := c.writeAll(head)
	if err == nil {
		err = c.writeAll(p)
	}
	c.mu.Lock()
	c.failedLocked(err)
	c.triedLocked(nil, nil)
}

func (c *combiner) setUnsent(unsent func(n int)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsent = unsent
}

func (c *combiner) setDirect(direct func(head, p []byte) int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.direct = direct
}

// makesLarge is called for the answering end, before it starts HTTP/2. Where that is the end
// that has accepted the websocket, as between nodes, its messages may be as large as those
// of one that has dialled. If it is writing already they stay as they are.
func (c *combiner) makesLarge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil && !c.flushing {
		c.buffers, c.whole = bulkBuffers, true
	}
}

// bufferLocked returns what is pending, to which n bytes are to be added. waitRoomLocked
// has found room.
func (c *combiner) bufferLocked(n int) *[]byte {
	if c.pending == nil {
		c.pending = c.getBuffer(n)
	}
	return c.pending
}

// startLocked makes what is pending leave, unless that is under way.
func (c *combiner) startLocked() {
	if c.flushing {
		return
	}
	c.flushing = true
	if c.direct == nil || len(*c.pending) < directSize {
		go c.flush(nil, nil)
		return
	}
	buf := c.pending
	c.pending = nil
	direct := c.direct
	c.mu.Unlock()
	rest := c.tryWrite(direct, *buf)
	if len(rest) == 0 {
		c.putBuffer(buf)
		buf = nil
	}
	c.mu.Lock()
	c.triedLocked(buf, rest)
}

// triedLocked goes on after a direct write, which has left rest of buf; nil: nothing.
func (c *combiner) triedLocked(buf *[]byte, rest []byte) {
	c.changedLocked()
	if buf == nil && c.pending == nil {
		c.flushing = false
		return
	}
	go c.flush(buf, rest)
}

// tryWrite writes what the socket takes at once, and returns the rest of p.
func (c *combiner) tryWrite(direct func(head, p []byte) int, p []byte) []byte {
	if direct == nil {
		return p
	}
	n := direct(nil, p)
	c.wrote(n, 0)
	return p[n:]
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

// waitRoomLocked waits until n bytes can be added without more than most being
// held back, or nothing is. With timed it obeys the write deadline.
func (c *combiner) waitRoomLocked(n, most int, timed bool) error {
	for {
		if c.err != nil {
			return c.err
		}
		left := time.Duration(0)
		if timed && !c.deadline.IsZero() {
			if left = time.Until(c.deadline); left <= 0 {
				return os.ErrDeadlineExceeded
			}
		}
		if c.pending == nil || len(*c.pending)+n <= min(most, cap(*c.pending)) {
			return nil
		}
		c.waitForLocked(left)
		if timed {
			most = int(c.quantum.Load())
		}
	}
}

// waitForLocked waits for the next change of state, no longer than d unless that is 0. It
// is a function of its own since a defer in a loop makes the function cost more stack
// than the new goroutines have that x/net writes from.
func (c *combiner) waitForLocked(d time.Duration) {
	if d <= 0 {
		c.waitLocked(nil)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	c.waitLocked(t.C)
}

// wrote notes that a write of n bytes has taken d.
func (c *combiner) wrote(n int, d time.Duration) {
	before := c.pace.fast
	c.pace.wrote(n, d, &c.quantum)
	if c.unsent == nil || c.pace.fast == before {
		return
	}
	if c.pace.fast {
		c.unsent(fastUnsent)
	} else {
		c.unsent(maxUnsent)
	}
}

// A pace learns how fast a link is. What a single write takes says little: it
// may have found room in the kernel. So it counts until there is enough.
type pace struct {
	bytes int           // written …
	took  time.Duration // … in that time

	fast  bool
	begun time.Time // of the run of bytes that are counted for that
	run   int       // how many there are
}

// wrote notes that a write of n bytes has taken d and, every now and then,
// adapts the quantum, of which a fast link may have more.
func (p *pace) wrote(n int, d time.Duration, quantum *atomic.Int32) {
	if p.run += n; p.run >= fastBytes {
		now := time.Now()
		p.fast = now.Sub(p.begun) < fastTime
		p.begun, p.run = now, 0
		if !p.fast {
			quantum.Store(min(quantum.Load(), maxQuantum))
		}
	}
	p.bytes += n
	p.took += d
	if p.took < maxHold && p.bytes < maxQuantum {
		return
	}
	q := int64(maxQuantum)
	if p.fast {
		q = bulkQuantum
	}
	if p.took > 0 {
		q = min(int64(p.bytes)*int64(maxHold)/int64(p.took), q)
	}
	p.fast = p.fast && q >= maxQuantum
	// Up by doubling: a slow link takes a burst now and then.
	quantum.Store(int32(max(min(q, 2*int64(quantum.Load())), minQuantum)))
	p.bytes, p.took = 0, 0
}

func (c *combiner) changedLocked() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// flush writes rest, which is of buf, if that is not nil, and then until nothing is
// pending.
func (c *combiner) flush(buf *[]byte, rest []byte) {
	if buf == nil && c.several.Load() {
		runtime.Gosched() // who else is about to write comes first
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (buf != nil || c.pending != nil) {
		tried := buf != nil
		if !tried {
			buf = c.pending
			c.pending, rest = nil, *buf
			c.changedLocked()
		}
		direct := c.direct
		c.mu.Unlock()
		if !tried {
			rest = c.tryWrite(direct, rest)
		}
		err := c.writeAll(rest)
		c.putBuffer(buf)
		buf = nil
		c.mu.Lock()
		c.failedLocked(err)
	}
	if buf != nil {
		c.putBuffer(buf)
	}
	c.flushing = false
	c.changedLocked()
}

// writeAll writes p, which may take as long as there is progress.
func (c *combiner) writeAll(p []byte) (err error) {
	if len(p) == 0 {
		return nil
	}
	timer := c.timer
	if c.timeout > 0 {
		if timer == nil {
			timer = time.AfterFunc(c.timeout, func() { _ = c.abort(errWriteTimeout) })
			c.timer = timer
		} else {
			timer.Reset(c.timeout)
		}
		defer timer.Stop() // the next one has the same
	}
	size := firstPiece
	if c.pace.fast {
		size = maxBulkPending
	}
	for len(p) > 0 && err == nil {
		begun := time.Now()
		piece := p[:min(len(p), size)]
		_, err = c.w.Write(piece)
		p = p[len(piece):]
		took := time.Since(begun)
		c.wrote(len(piece), took)
		if timer == nil {
			continue
		}
		timer.Reset(c.timeout)
		// The timeout is about no progress at all: on a slow link
		// that can be seen in small pieces only.
		switch {
		case took > c.timeout/10:
			size = max(size/4, slowPiece)
		case took < c.timeout/100:
			size = min(size*2, maxBulkPending)
		}
	}
	return err
}

// failedLocked notes that writing has ended with err, unless that is nil.
func (c *combiner) failedLocked(err error) {
	if c.err == nil {
		c.err = err
	}
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
		c.putBuffer(c.pending)
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
