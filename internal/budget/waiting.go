package budget

import (
	"sync/atomic"
	"time"
)

// waiting is for how long bytes of a Holding wait, as one word: each piece of an answer, and
// each message of an upgraded connection, begins and ends a wait.
type waiting struct{ word atomic.Uint64 }

// A word has how many calls of Wait had no Done yet and, above that, since when nothing has
// moved, from the beginning of the Budget.
const (
	countBits = 20
	maxCount  = 1<<countBits - 1
	tick      = 100 * time.Microsecond
)

func wordOf(count uint64, since time.Duration) uint64 { return uint64(since/tick)<<countBits | count }

// begin counts a Wait. now is asked if it is the first.
func (w *waiting) begin(now func() time.Duration) {
	for {
		old := w.word.Load()
		next := old + 1
		switch old & maxCount {
		case 0:
			next = wordOf(1, now())
		case maxCount:
			return // one that is not counted: the wait is over too early
		}
		if w.word.CompareAndSwap(old, next) {
			return
		}
	}
}

// end counts a Done, if there is one Wait or more.
func (w *waiting) end() {
	for {
		old := w.word.Load()
		if old&maxCount == 0 || w.word.CompareAndSwap(old, old-1) {
			return
		}
	}
}

// moved begins the time anew.
func (w *waiting) moved(now func() time.Duration) {
	for {
		old := w.word.Load()
		if old&maxCount == 0 || w.word.CompareAndSwap(old, wordOf(old&maxCount, now())) {
			return
		}
	}
}

// reset is as if each Wait had its Done.
func (w *waiting) reset() { w.word.Store(0) }

// idle returns for how long there has been a Wait, and nothing has moved.
func (w *waiting) idle(now time.Duration) time.Duration {
	word := w.word.Load()
	if word&maxCount == 0 {
		return 0
	}
	return now - time.Duration(word>>countBits)*tick
}
