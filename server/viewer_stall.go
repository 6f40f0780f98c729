package server

import (
	"sync"
	"time"
)

// stallTimer calls a function if one write takes longer than a timeout. The
// function never runs after stop has returned: what it acts on may be gone then,
// and with x/net's ResponseWriter that ends the process. So it is called with a
// lock held, and must do no I/O. The zero value never calls anything.
type stallTimer struct {
	x       *exchange     // learns that bytes wait meanwhile
	timeout time.Duration // zero: never
	stalled func()

	mu    sync.Mutex
	since time.Time   // zero while nothing is timed
	timer *time.Timer // nil before the first start
}

func (t *stallTimer) init(x *exchange, timeout time.Duration, stalled func()) {
	t.x, t.timeout, t.stalled = x, timeout, stalled
}

// start begins to time; stop ends that.
func (t *stallTimer) start() {
	t.x.waits()
	if t.timeout <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = time.Now()
	if t.timer == nil {
		t.timer = time.AfterFunc(t.timeout, t.expired)
	} else {
		t.timer.Reset(t.timeout)
	}
}

func (t *stallTimer) stop() {
	t.x.moves()
	if t.timeout <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since = time.Time{}
	t.timer.Stop()
}

// expire is as if the timeout were over.
func (t *stallTimer) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.since.IsZero() {
		t.stalled()
	}
}

func (t *stallTimer) expired() {
	t.mu.Lock()
	defer t.mu.Unlock()
	// A firing may be late, and belong to what was timed before.
	if !t.since.IsZero() && time.Since(t.since) >= t.timeout {
		t.stalled()
	}
}
