package server

import (
	"sync"
	"time"
)

// watchdog calls a function if what it watches takes longer than a timeout.
// The function never runs after done has returned: what it acts on may be gone
// then, and with x/net's ResponseWriter that ends the process.
type watchdog struct {
	timeout time.Duration // zero: never
	bite    func()

	mu    sync.Mutex
	since time.Time   // zero while nothing is watched
	timer *time.Timer // nil before the first watch
}

// watch begins to watch; done ends that.
func (d *watchdog) watch() {
	if d.timeout <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since = time.Now()
	if d.timer == nil {
		d.timer = time.AfterFunc(d.timeout, d.expired)
	} else {
		d.timer.Reset(d.timeout)
	}
}

func (d *watchdog) done() {
	if d.timeout <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since = time.Time{}
	d.timer.Stop()
}

func (d *watchdog) expired() {
	d.mu.Lock()
	defer d.mu.Unlock()
	// A firing may be late, and belong to what was watched before.
	if !d.since.IsZero() && time.Since(d.since) >= d.timeout {
		d.bite()
	}
}
