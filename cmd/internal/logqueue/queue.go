package logqueue

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

const (
	// maxLines and maxBytes bound what waits to be written.
	maxLines = 4096
	maxBytes = 2 << 20

	// retryPause is the time between attempts to write to a file that another
	// process has set to non-blocking mode.
	retryPause = 50 * time.Millisecond
)

// Queue is an [io.Writer] for whole lines that never blocks and never fails.
// The order of lines is kept and no line is torn. It may be used by several
// goroutines at a time.
type Queue struct {
	// Static after New.
	out  io.Writer
	note func(dropped uint64) []byte
	wake chan struct{} // holds one token: there may be something to do
	done chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	lines   []line
	bytes   int    // of lines, and of the one that is being written
	full    bool   // lines are dropped until half of the queue is free
	gap     uint64 // lines dropped since the newest in the queue
	dropped uint64 // in all
	closed  bool

	// Owned by the writer.
	missing uint64 // lines lost since the last that was written
	rest    []byte // of a line that was written in part
}

type line struct {
	gap  uint64 // lines dropped just before this one
	text []byte
}

var _ io.Writer = (*Queue)(nil)

// New returns a queue that writes to out, one call for each line. Where lines
// are missing it writes what note makes of their number; nil: nothing. It must
// be closed.
func New(out io.Writer, note func(dropped uint64) []byte) *Queue {
	q := &Queue{out: out, note: note, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues a copy of p, which counts as one line, or drops it. It always returns len(p) and nil.
func (q *Queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Where the reader is slow rather than gone, this leaves a few long gaps in
	// place of many short ones, each with its note.
	if q.full && len(q.lines) <= maxLines/2 && q.bytes <= maxBytes/2 {
		q.full = false
	}
	if len(q.lines) >= maxLines || q.bytes+len(p) > maxBytes {
		q.full = true
	}
	if q.full || q.closed {
		q.gap++
		q.dropped++
		q.signal()
		return len(p), nil
	}
	q.lines = append(q.lines, line{gap: q.gap, text: bytes.Clone(p)})
	q.bytes += len(p)
	q.gap = 0
	q.signal()
	return len(p), nil
}

// Dropped returns how many lines have been dropped so far: because the queue
// was full, because writing failed, or because they came after Close.
func (q *Queue) Dropped() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// Close waits until the queued lines have been written, for at most d, and
// reports whether it has. Lines that come later are dropped. A write that
// blocks keeps the queue's goroutine.
func (q *Queue) Close(d time.Duration) bool {
	q.mu.Lock()
	q.closed = true
	q.signal()
	q.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-q.done:
		return true
	case <-timer.C:
		return false
	}
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run writes queued lines until the queue is closed and empty.
func (q *Queue) run() {
	defer close(q.done)
	for range q.wake {
		for l, ok := q.next(); ok; l, ok = q.next() {
			q.missing += l.gap
			written := q.write(l.text)
			q.mu.Lock()
			q.bytes -= len(l.text)
			if !written && l.text != nil {
				q.missing++
				q.dropped++
			}
			q.mu.Unlock()
		}
		q.mu.Lock()
		ended := q.closed && len(q.lines) == 0
		q.mu.Unlock()
		if ended {
			return
		}
	}
}

// next takes the oldest line from the queue. When there is none but lines have
// been dropped behind the last one, it returns only their number.
func (q *Queue) next() (line, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.lines) == 0 {
		l := line{gap: q.gap}
		q.gap = 0
		return l, l.gap > 0
	}
	l := q.lines[0]
	q.lines[0] = line{}
	q.lines = q.lines[1:]
	return l, true
}

// write writes one line, behind the number of lines that are missing before it.
// A write that fails is not tried again: the next line is the next attempt.
func (q *Queue) write(text []byte) bool {
	if !q.writeAll(nil) {
		return false
	}
	if q.missing > 0 && q.note != nil {
		if !q.writeAll(q.note(q.missing)) {
			return false
		}
	}
	q.missing = 0
	return q.writeAll(text)
}

// writeAll writes the rest of an earlier line, and then text. It reports
// whether text has been written. What was written in part counts as written:
// the rest follows with the next call, so that no line is torn.
func (q *Queue) writeAll(text []byte) bool {
	if n, err := q.writeOut(q.rest); err != nil {
		q.rest = q.rest[n:]
		return false
	}
	q.rest = nil
	n, err := q.writeOut(text)
	if err != nil && n > 0 {
		q.rest = bytes.Clone(text[n:])
	}
	return err == nil || n > 0
}

// writeOut writes p to out and returns how much of it was written.
func (q *Queue) writeOut(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := q.out.Write(p[n:])
		n += m
		switch {
		case errors.Is(err, syscall.EAGAIN):
			<-time.After(retryPause)
		case err != nil:
			return n, err
		case m == 0:
			return n, io.ErrShortWrite
		}
	}
	return n, nil
}
