package faultnet

import (
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Direction is one of the two directions of a [Link]. Its methods may be
// called at any time from any goroutine, and act on bytes under way.
type Direction struct {
	mu      sync.Mutex
	changed chan struct{} // non-nil while somebody waits; closed at the next change
	rng     *rand.Rand    // used by the writing end only
	faults  Faults

	queue  []byte    // written and not read
	pieces []piece   // of queue, in order
	sent   time.Time // when the last byte has left the writing end, by the rate
	due    time.Time // when the last piece arrives

	stalled bool
	until   time.Time // end of the stall; zero: none
	cut     int       // how many bytes are still delivered; negative: all

	end         error // what comes after the queue; nil while the direction is open
	broken      error // of a reset, for both ends at once
	readClosed  bool
	writeClosed bool

	readDeadline, writeDeadline time.Time
}

// piece is a number of bytes that arrive together.
type piece struct {
	n     int
	due   time.Time // zero: at once
	alone bool      // is not to be read together with others
}

func newDirection(f Faults, seed, stream uint64) *Direction {
	return &Direction{faults: f, cut: -1, rng: rand.New(rand.NewPCG(seed, stream))}
}

// Set changes the faults, for bytes written from now on.
func (d *Direction) Set(f Faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
	d.changedLocked()
}

// Stall stops the delivery of bytes and of ends, until Resume. Writes succeed
// until the buffer is full.
func (d *Direction) Stall() { d.stall(time.Time{}) }

// StallFor is Stall that ends by itself.
func (d *Direction) StallFor(t time.Duration) { d.stall(time.Now().Add(t)) }

func (d *Direction) stall(until time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled, d.until = true, until
	d.changedLocked()
}

// Resume ends a stall.
func (d *Direction) Resume() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stalled = false
	d.changedLocked()
}

// CutAfter ends the direction after n more bytes have been delivered: the
// reading end gets [io.EOF] there as if it were the end, and writes fail with
// EPIPE from then on.
func (d *Direction) CutAfter(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut = max(n, 0)
	d.changedLocked()
}

func (d *Direction) changedLocked() {
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// waitLocked waits for the next change, or until the first of the times that
// are not zero.
func (d *Direction) waitLocked(times ...time.Time) {
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	changed := d.changed
	var first time.Time
	for _, t := range times {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	d.mu.Unlock()
	defer d.mu.Lock()
	if first.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(first))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}

func passed(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

// stalledLocked reports whether nothing is to be delivered now, and until when
// if that is known.
func (d *Direction) stalledLocked() (bool, time.Time) {
	if d.stalled && passed(d.until) {
		d.stalled = false
	}
	if !d.stalled {
		return false, time.Time{}
	}
	return true, d.until
}

func (d *Direction) read(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		stalled, next := d.stalledLocked()
		switch {
		case d.readClosed:
			return 0, net.ErrClosed
		case d.broken != nil:
			return 0, d.broken
		case passed(d.readDeadline):
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case stalled:
		case d.cut == 0:
			d.queue, d.pieces = nil, nil
			d.changedLocked() // for a writer that waits for room
			return 0, io.EOF
		case len(d.pieces) == 0 && d.end != nil:
			return 0, d.end
		case len(d.pieces) > 0:
			if n := d.takeLocked(p); n > 0 {
				return n, nil
			}
			next = d.pieces[0].due
		}
		d.waitLocked(next, d.readDeadline)
	}
}

// takeLocked copies to p what has arrived.
func (d *Direction) takeLocked(p []byte) int {
	if d.cut >= 0 {
		p = p[:min(len(p), d.cut)]
	}
	n := 0
	for len(d.pieces) > 0 && n < len(p) {
		first := &d.pieces[0]
		if !first.due.IsZero() && !passed(first.due) || n > 0 && first.alone {
			break
		}
		k := copy(p[n:], d.queue[:first.n])
		n += k
		d.queue = d.queue[k:]
		alone := first.alone
		if first.n -= k; first.n == 0 {
			d.pieces = d.pieces[1:]
		}
		if alone {
			break
		}
	}
	if d.cut >= 0 {
		d.cut -= n
	}
	if n > 0 {
		d.changedLocked()
	}
	return n
}

func (d *Direction) write(p []byte) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		stalled, next := d.stalledLocked()
		switch {
		case d.writeClosed:
			return n, net.ErrClosed
		case d.broken != nil:
			return n, d.broken
		case passed(d.writeDeadline):
			return n, os.ErrDeadlineExceeded
		case !stalled && (d.readClosed || d.cut == 0):
			return n, syscall.EPIPE
		case len(p) == 0:
			return n, nil
		}
		if k := min(len(p), d.faults.buffer()-len(d.queue)); k > 0 {
			d.putLocked(p[:k])
			p, n = p[k:], n+k
			continue
		}
		if !d.readClosed && d.cut != 0 {
			next = time.Time{} // the end of the stall alone makes no room
		}
		d.waitLocked(next, d.writeDeadline)
	}
}

// putLocked puts p into the queue, in pieces.
func (d *Direction) putLocked(p []byte) {
	f, now := d.faults, time.Now()
	for len(p) > 0 {
		k := len(p)
		if f.Rate > 0 { // a hundredth of a second at a time
			k = min(k, max(f.Rate/100, 1))
		}
		if f.Slice > 0 {
			k = min(k, 1+d.rng.IntN(f.Slice))
		}
		d.queue = append(d.queue, p[:k]...)
		d.pieces = append(d.pieces, piece{n: k, due: d.dueLocked(k, now), alone: f.Slice > 0})
		p = p[k:]
	}
	d.changedLocked()
}

// dueLocked returns when the next n bytes arrive.
func (d *Direction) dueLocked(n int, now time.Time) time.Time {
	f := d.faults
	if d.sent.Before(now) {
		d.sent = now
	}
	if f.Rate > 0 {
		d.sent = d.sent.Add(time.Duration(n) * time.Second / time.Duration(f.Rate))
	}
	due := d.sent.Add(f.Delay)
	if f.Jitter > 0 {
		due = due.Add(time.Duration(d.rng.Int64N(int64(f.Jitter))))
	}
	if due.After(d.due) {
		d.due = due
	}
	return d.due
}

// closeWrite ends the direction with err, io.EOF or that of a reset, after
// what has been written.
func (d *Direction) closeWrite(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writeClosed = true
	if d.end == nil {
		d.end = err
	}
	d.changedLocked()
}

// closeRead says that nobody will read any more.
func (d *Direction) closeRead() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readClosed = true
	if !d.stalled { // otherwise nobody can know
		d.queue, d.pieces = nil, nil
	}
	d.changedLocked()
}

// reset breaks the direction for both ends.
func (d *Direction) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = syscall.ECONNRESET
	d.queue, d.pieces = nil, nil
	d.changedLocked()
}

func (d *Direction) setReadDeadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readDeadline = t
	d.changedLocked()
}

func (d *Direction) setWriteDeadline(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writeDeadline = t
	d.changedLocked()
}
