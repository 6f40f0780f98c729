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
// one buffer ahead of Read; what arrives after a deadline has passed is kept
// for the next Read.
type readAhead struct {
	mu       sync.Mutex
	data     []byte // read ahead
	err      error
	started  bool
	closed   bool
	deadline time.Time
	changed  chan struct{} // closed and replaced at each change
	src      io.Reader
}

func newReadAhead(src io.Reader) *readAhead {
	return &readAhead{src: src, changed: make(chan struct{})}
}

func (r *readAhead) changedLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// run reads until the source ends. It ends with the stream, at the latest.
func (r *readAhead) run() {
	buf := make([]byte, readAheadBuffer)
	for {
		n, err := r.src.Read(buf)
		r.mu.Lock()
		r.data = buf[:n]
		r.err = err
		r.changedLocked()
		for len(r.data) > 0 && !r.closed {
			changed := r.changed
			r.mu.Unlock()
			<-changed
			r.mu.Lock()
		}
		stop := r.closed || err != nil
		r.mu.Unlock()
		if stop {
			return
		}
	}
}

func (r *readAhead) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.started && !r.closed {
		r.started = true
		go r.run()
	}
	for {
		if r.closed {
			return 0, net.ErrClosed
		}
		if !r.deadline.IsZero() && time.Until(r.deadline) <= 0 {
			return 0, os.ErrDeadlineExceeded
		}
		if len(r.data) > 0 {
			n := copy(p, r.data)
			r.data = r.data[n:]
			if len(r.data) == 0 {
				r.changedLocked()
			}
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		r.waitLocked()
	}
}

func (r *readAhead) waitLocked() {
	var expired <-chan time.Time
	if !r.deadline.IsZero() {
		t := time.NewTimer(time.Until(r.deadline))
		defer t.Stop()
		expired = t.C
	}
	changed := r.changed
	r.mu.Unlock()
	defer r.mu.Lock()
	select {
	case <-changed:
	case <-expired:
	}
}

// idle reports whether no Read has started reading ahead yet.
func (r *readAhead) idle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.started
}

func (r *readAhead) setDeadline(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
	r.changedLocked()
}

func (r *readAhead) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.changedLocked()
	}
}
