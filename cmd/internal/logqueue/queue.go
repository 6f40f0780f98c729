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

	// maxBatch bounds what is written in one piece, and batchDelay how long a line waits
	// for others.
	maxBatch   = 32 << 10
	batchDelay = 100 * time.Millisecond
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
	count   int    // of lines, as they were written
	bytes   int    // of lines, and of the one that is being written
	full    bool   // lines are dropped until half of the queue is free
	gap     uint64 // lines dropped since the newest in the queue
	dropped uint64 // in all
	closed  bool
	spare   []byte      // for the next batch
	woken   time.Time   // when the writer was last woken for a batch
	due     *time.Timer // wakes it; nil before the first batch
	waits   bool        // due is running

	// Owned by the writer.
	missing uint64 // lines lost since the last that was written
	rest    []byte // of a line that was written in part
}

// line is one line, or a batch of them.
type line struct {
	gap     uint64 // lines dropped just before this one
	text    []byte
	count   int           // of lines in text; 0: it is none, but a gap or the end of a Flush
	batch   bool          // more may be added
	flushed chan struct{} // closed when the writer comes here, unless nil
}

var _ io.Writer = (*Queue)(nil)

// New returns a queue that writes to out, one call for each line but those of
// [Queue.Batch]. Where lines
// are missing it writes what note makes of their number; nil: nothing. It must
// be closed.
func New(out io.Writer, note func(dropped uint64) []byte) *Queue {
	q := &Queue{out: out, note: note, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues a copy of p, which counts as one line, or drops it. It always returns len(p) and nil.
func (q *Queue) Write(p []byte) (int, error) {
	q.add(p, false)
	return len(p), nil
}

// Batch returns a writer for lines that come in large numbers. It is like Write, but
// such lines are written together: those of 100 ms, or
// 32 KiB of them. Each must end with its only newline.
func (q *Queue) Batch() io.Writer { return batchWriter{q} }

type batchWriter struct{ q *Queue }

func (w batchWriter) Write(p []byte) (int, error) {
	w.q.add(p, true)
	return len(p), nil
}

func (q *Queue) add(p []byte, batch bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Where the reader is slow rather than gone, this leaves a few long gaps in
	// place of many short ones, each with its note.
	if q.full && q.count <= maxLines/2 && q.bytes <= maxBytes/2 {
		q.full = false
	}
	if q.count >= maxLines || q.bytes+len(p) > maxBytes {
		q.full = true
	}
	if q.full || q.closed {
		q.gap++
		q.dropped++
		q.signal()
		return
	}
	q.count++
	q.bytes += len(p)
	if !batch {
		q.lines = append(q.lines, line{gap: q.gap, text: bytes.Clone(p), count: 1})
		q.gap = 0
		q.signal()
		return
	}
	if n := len(q.lines); n > 0 && q.lines[n-1].batch && q.gap == 0 {
		if last := &q.lines[n-1]; len(last.text)+len(p) <= maxBatch {
			last.text = append(last.text, p...)
			last.count++
			q.signalSoon()
			return
		}
		q.signal()
	}
	q.lines = append(q.lines, line{gap: q.gap, text: append(q.spare, p...), count: 1, batch: true})
	q.gap, q.spare = 0, nil
	q.signalSoon()
}

// signalSoon wakes the writer now if it has not been for batchDelay, and otherwise
// then. q.mu is held.
func (q *Queue) signalSoon() {
	if q.waits {
		return
	}
	now := time.Now()
	wait := batchDelay - now.Sub(q.woken)
	if wait <= 0 {
		q.woken = now
		q.signal()
		return
	}
	q.waits = true
	if q.due == nil {
		q.due = time.AfterFunc(wait, q.isDue)
	} else {
		q.due.Reset(wait)
	}
}

func (q *Queue) isDue() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waits, q.woken = false, time.Now()
	q.signal()
}

// Flush waits until the lines that are queued now have been written or lost, for at
// most d, and reports whether they have.
func (q *Queue) Flush(d time.Duration) bool {
	flushed := make(chan struct{})
	q.mu.Lock()
	q.lines = append(q.lines, line{flushed: flushed})
	q.signal()
	q.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-q.done:
	case <-timer.C:
		return false
	}
	return true
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
			if l.flushed != nil {
				close(l.flushed)
				continue
			}
			q.missing += l.gap
			lost := uint64(l.count - q.write(l))
			q.missing += lost
			q.mu.Lock()
			q.bytes -= len(l.text)
			q.dropped += lost
			if l.batch && q.spare == nil {
				q.spare = l.text[:0]
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
	q.count -= l.count
	return l, true
}

// write writes l, behind the number of lines that are missing before it, and returns
// how many of its lines have been written. A write that fails is not tried again: the
// next line is the next attempt.
func (q *Queue) write(l line) int {
	if _, ok := q.writeAll(nil, 0); !ok {
		return 0
	}
	if q.missing > 0 && q.note != nil {
		if _, ok := q.writeAll(q.note(q.missing), 1); !ok {
			return 0
		}
	}
	q.missing = 0
	n, _ := q.writeAll(l.text, l.count)
	return n
}

// writeAll writes the rest of an earlier line, and then text, of so many lines. It
// returns how many have been written, and false if that is none. What was written in
// part counts as written: the rest follows with the next call, so that no line is torn.
func (q *Queue) writeAll(text []byte, lines int) (written int, ok bool) {
	if n, err := q.writeOut(q.rest); err != nil {
		q.rest = q.rest[n:]
		return 0, false
	}
	q.rest = nil
	n, err := q.writeOut(text)
	switch {
	case err == nil:
		return lines, true
	case n == 0:
		return 0, false
	}
	end := len(text)
	if lines > 1 {
		end = n + bytes.IndexByte(text[n-1:], '\n') // of the line that was cut off
		lines = bytes.Count(text[:end], []byte("\n"))
	}
	q.rest = bytes.Clone(text[n:end])
	return lines, true
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
