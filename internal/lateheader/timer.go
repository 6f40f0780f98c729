// Package lateheader sends the header of an answer whose body keeps it waiting.
// Otherwise header and body leave together, which spares a system call, or an
// HTTP/2 frame of its own.
package lateheader

import (
	"sync"
	"sync/atomic"
	"time"
)

// Timer calls a function once, if what it waits for does not come. The zero value
// waits for nothing.
//
//	waiting   Start was called
//	flushing  the time is over, and the function runs
//	over      Stop has returned: the function does not run any more
//
// Start is called once at most. Stop may be called at any time, by the goroutine
// that calls Start.
type Timer struct {
	state   atomic.Int32
	running sync.WaitGroup // the function, while waiting or flushing
	timer   *time.Timer
}

const (
	unused int32 = iota
	waiting
	flushing
	over
)

// Start calls flush after patience, in a goroutine of its own.
func (t *Timer) Start(patience time.Duration, flush func()) {
	t.running.Add(1)
	t.state.Store(waiting)
	t.timer = time.AfterFunc(patience, func() {
		if t.state.CompareAndSwap(waiting, flushing) {
			defer t.running.Done()
			flush()
		}
	})
}

// Stop returns when the function does not run and will not any more. It has to be
// called before anything else is done with the answer.
func (t *Timer) Stop() {
	switch {
	case t.state.CompareAndSwap(waiting, over):
		t.timer.Stop()
		t.running.Done()
	case t.state.Load() == flushing:
		t.running.Wait()
		t.state.Store(over)
	}
}
