package server

import (
	"io"
	"sync"
	"time"
)

// stallTimer calls a function if one thing, such as a write, takes longer than a
// timeout. The function never runs after stop has returned: what it acts on may be
// gone then, and with x/net's ResponseWriter that ends the process. So it is called
// with a lock held, and must do no I/O. The zero value never calls anything.
type stallTimer struct {
	x       *exchange     // learns that bytes wait meanwhile; nil: none does
	timeout time.Duration // zero: never
	stalled func()        // may be nil without a timeout
	piece   int           // of write, which owns it

	mu      sync.Mutex
	off     bool        // start does nothing
	running bool        // between start and stop
	since   time.Time   // when start was called last
	timer   *time.Timer // nil before the first start
}

func (t *stallTimer) init(x *exchange, timeout time.Duration, stalled func()) {
	t.x, t.timeout, t.stalled = x, timeout, stalled
}

// limit changes the timeout, while nothing is timed.
func (t *stallTimer) limit(timeout time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timeout = timeout
}

// start begins to time, or begins anew; stop ends that.
func (t *stallTimer) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.off {
		return
	}
	if !t.running {
		t.running = true
		t.x.waits()
	}
	if t.timeout <= 0 {
		return
	}
	t.since = time.Now()
	if t.timer == nil {
		t.timer = time.AfterFunc(t.timeout, t.expired)
	} else {
		t.timer.Reset(t.timeout)
	}
}

func (t *stallTimer) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stopLocked()
}

func (t *stallTimer) stopLocked() {
	if t.running {
		t.running = false
		t.x.moves()
	}
	if t.timer != nil {
		t.timer.Stop()
	}
}

// allow(false) stops the timer and keeps start from doing anything until
// allow(true).
func (t *stallTimer) allow(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.off = !on; t.off {
		t.stopLocked()
	}
}

// expire is as if the timeout were over. It reports whether anything is being timed.
func (t *stallTimer) expire() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running && t.stalled != nil {
		t.stalled()
	}
	return t.running
}

// write writes p to w. With a timeout it does so in pieces, to see progress, and in larger
// ones where that is fast. Only one goroutine at a time may call it.
func (t *stallTimer) write(w io.Writer, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		piece, most := p[n:], max(t.piece, bodyPiece)
		var begun time.Time
		if t.timeout > 0 && len(piece) > bodyPiece {
			piece, begun = piece[:min(len(piece), most)], time.Now()
		}
		var k int
		t.start()
		k, err = w.Write(piece)
		t.stop()
		n += k
		if begun.IsZero() {
			continue
		}
		t.piece = nextPiece(most, time.Since(begun), t.timeout)
	}
	return n, err
}

func (t *stallTimer) expired() {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A firing may be late, and belong to what was timed before.
	if t.running && time.Since(t.since) >= t.timeout {
		t.stalled()
	}
}
