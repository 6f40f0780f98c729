package h2conn

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// readAheadBuffer is how much is read ahead.
const readAheadBuffer = 16 << 10

// readAhead gives a reader without deadlines a deadline. Its goroutine reads
// ahead of Read into a buffer, and waits only while that is full; what arrives
// after a deadline has passed is kept for the next Read.
type readAhead struct {
	mu       sync.Mutex
	changed  sync.Cond // of mu: anything below
	buf      []byte    // nil before the first Read
	from, to int       // bytes in buf that have not been taken
	err      error     // behind that
	closed   bool
	deadline time.Time
	timer    *time.Timer // for a Read that waits; nil before the first deadline
	src      io.Reader
}

func newReadAhead(src io.Reader) *readAhead {
	r := &readAhead{src: src}
	r.changed.L = &r.mu
	return r
}

// run reads until the source ends. It ends with the stream, at the latest.
func (r *readAhead) run() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.closed && r.err == nil {
		if r.from == r.to {
			r.from, r.to = 0, 0
		}
		if r.to == len(r.buf) {
			r.changed.Wait() // until all has been taken
			continue
		}
		// Read takes the bytes before this part meanwhile, and moves nothing.
		free := r.buf[r.to:]
		r.mu.Unlock()
		n, err := r.src.Read(free)
		r.mu.Lock()
		r.to += n
		r.err = err
		r.changed.Broadcast()
	}
}

func (r *readAhead) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.buf == nil && !r.closed {
		r.buf = make([]byte, readAheadBuffer)
		go r.run()
	}
	for {
		switch {
		case r.closed:
			return 0, net.ErrClosed
		case !r.deadline.IsZero() && time.Until(r.deadline) <= 0:
			return 0, os.ErrDeadlineExceeded
		case r.from < r.to:
			n := copy(p, r.buf[r.from:r.to])
			if r.from += n; r.from == len(r.buf) {
				r.changed.Broadcast() // run waits for room
			}
			return n, nil
		case r.err != nil:
			return 0, r.err
		}
		r.changed.Wait()
	}
}

// idle reports whether no Read has started reading ahead yet.
func (r *readAhead) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf == nil
}

func (r *readAhead) setDeadline(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
	switch {
	case r.closed:
	case t.IsZero():
		if r.timer != nil {
			r.timer.Stop()
		}
	case r.timer == nil:
		r.timer = time.AfterFunc(time.Until(t), r.wake)
	default:
		r.timer.Reset(time.Until(t))
	}
	r.changed.Broadcast()
}

func (r *readAhead) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed.Broadcast()
}

func (r *readAhead) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.changed.Broadcast()
}
