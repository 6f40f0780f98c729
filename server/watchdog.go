package server

import "time"

// watchdog calls a function if what it watches takes longer than a timeout.
// It belongs to one goroutine.
type watchdog struct {
	timeout time.Duration // zero: never
	bite    func()
	timer   *time.Timer // nil before the first watch
}

func newWatchdog(timeout time.Duration, bite func()) watchdog {
	return watchdog{timeout: timeout, bite: bite}
}

// watch begins to watch; done ends that.
func (d *watchdog) watch() {
	switch {
	case d.timeout <= 0:
	case d.timer == nil:
		d.timer = time.AfterFunc(d.timeout, d.bite)
	default:
		d.timer.Reset(d.timeout)
	}
}

func (d *watchdog) done() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
