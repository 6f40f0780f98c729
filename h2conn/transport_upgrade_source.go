package h2conn

import (
	"errors"
	"io"
	"sync"
)

// upgradeSource is where an upgrade's bytes towards the target come from while an
// upgradedStream's ReadFrom is under way: x/net reads them there itself, rather than from
// another goroutine by way of a pipe. Its states:
//
//	open     read returns what the reader has
//	ended    the reader has returned an error, which may be io.EOF
//	stopped  the stream takes nothing more: a read under way is interrupted, since x/net
//	         waits for it, and none begins
type upgradeSource struct {
	r interruptible

	mu      sync.Mutex
	reading bool
	over    bool // ended or stopped
	stopped bool
	lost    bool  // a read had something after it was stopped
	err     error // of the reader
	n       int64
	done    chan struct{} // closed when it is over and r is not being read
}

// interruptible is a reader whose Read InterruptRead ends, and all that come until
// ResumeRead. They must not block.
type interruptible interface {
	io.Reader
	InterruptRead()
	ResumeRead()
}

// read reads for x/net. It reports false when there is nothing more to read here.
func (s *upgradeSource) read(p []byte) (n int, ok bool) {
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return 0, false
	}
	s.reading = true
	s.mu.Unlock()
	n, err := s.r.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	if s.stopped {
		s.lost = n > 0
		close(s.done)
		return 0, false
	}
	s.n += int64(n)
	if err != nil {
		s.over, s.err = true, err
		close(s.done)
	}
	return n, n > 0 || err == nil
}

// stop is called when the stream takes nothing more.
func (s *upgradeSource) stop() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.stopped = true, true
	if s.reading {
		s.r.InterruptRead()
		return
	}
	close(s.done)
}

// ReadFrom sends what r has until that ends or fails, or the stream takes nothing more. It
// returns the error of r, unless that is io.EOF, or of the stream. If r has methods to
// interrupt its Read, x/net reads from it, which spares a goroutine that hands on what has
// come.
func (s *upgradedStream) ReadFrom(r io.Reader) (int64, error) {
	in, ok := r.(interruptible)
	src := &upgradeSource{r: in, done: make(chan struct{})}
	if !ok || !s.body.take(src) {
		return io.Copy(struct{ io.Writer }{s}, r)
	}
	if _, err := s.pw.Write(nil); err != nil { // otherwise x/net has left the pipe
		src.stop()
	}
	<-src.done
	switch {
	case src.lost:
		return src.n, io.ErrClosedPipe // as Write would
	case src.stopped: // r may have nothing more, and end well
		in.ResumeRead()
		n, err := io.Copy(struct{ io.Writer }{s}, r)
		return src.n + n, err
	case errors.Is(src.err, io.EOF):
		return src.n, nil
	default:
		return src.n, src.err
	}
}
