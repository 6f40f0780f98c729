package server

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A request body is read in pieces, because progress towards the target is
// seen between them only: in small ones where it is slow.
const (
	maxBodyRead  = 32 << 10
	slowBodyRead = 1 << 10
)

// requestBody is the body of a request on its way into a tunnel. It times the
// two things that only it can see: that the tunnel has taken no bytes although
// some are there, and that the request is over and no answer comes.
//
// HTTP/2's transport closes the body whatever becomes of the request. That does
// nothing: a request may be tried again, and an answer may still be under way.
type requestBody struct {
	src    io.Reader     // nil: no body
	in     *http.Request // whose trailers arrive with the end of src
	out    *http.Request // that gets the valid ones
	cancel context.CancelCauseFunc

	stall, header time.Duration // zero: no limit

	starting sync.Mutex
	started  atomic.Bool // a part of the body may have been read

	readAt time.Time // when the last piece was read; owned by the reader
	piece  int       // size of the next one; owned by the reader

	mu        sync.Mutex
	readErr   error       // of src, other than io.EOF
	timer     *time.Timer // nil until there is something to time
	waitingOn error       // what the timer's firing means
	hasAnswer bool
	stopped   bool
}

// newRequestBody wraps the body of in for out, a copy of it. Limits that are
// exceeded call cancel.
func newRequestBody(in, out *http.Request, stall, header time.Duration, cancel context.CancelCauseFunc) *requestBody {
	b := &requestBody{in: in, out: out, stall: stall, header: header, cancel: cancel, piece: maxBodyRead}
	out.Trailer = announcedTrailers(in.Trailer)
	if in.Body != nil && in.Body != http.NoBody {
		b.src = in.Body
		out.Body = b
		out.GetBody = nil
	} else {
		b.await(errHeaderTimeout, header)
	}
	return b
}

// await makes the timer fire after d, to mean err; d of zero stops it.
func (b *requestBody) await(err error, d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped || b.hasAnswer && err == errHeaderTimeout { //nolint:errorlint // identity
		d = 0
	}
	b.waitingOn = err
	switch {
	case d <= 0:
		if b.timer != nil {
			b.timer.Stop()
		}
	case b.timer == nil:
		b.timer = time.AfterFunc(d, b.expired)
	default:
		b.timer.Reset(d)
	}
}

func (b *requestBody) expired() {
	b.mu.Lock()
	err := b.waitingOn
	if b.stopped || b.hasAnswer && err == errHeaderTimeout { //nolint:errorlint // identity
		err = nil
	}
	b.mu.Unlock()
	if err != nil {
		b.cancel(err)
	}
}

// answered says that the answer has begun.
func (b *requestBody) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hasAnswer = true
	if b.timer != nil && b.waitingOn == errHeaderTimeout { //nolint:errorlint // identity
		b.timer.Stop()
	}
}

// stop ends all timing.
func (b *requestBody) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	if b.timer != nil {
		b.timer.Stop()
	}
}

func (b *requestBody) Read(p []byte) (int, error) {
	// Here because what was read before has been taken.
	b.await(nil, 0)
	if b.stall > 0 && !b.readAt.IsZero() {
		switch took := time.Since(b.readAt); {
		case took > b.stall/10:
			b.piece = max(b.piece/8, slowBodyRead)
		case took < b.stall/100:
			b.piece = min(b.piece*2, maxBodyRead)
		}
	}
	b.start()
	n, err := b.src.Read(p[:min(len(p), b.piece)])
	b.readAt = time.Now()
	if err == io.EOF {
		b.copyTrailers()
	} else if err != nil {
		b.mu.Lock()
		b.readErr = err
		b.mu.Unlock()
	}
	switch {
	case n > 0:
		b.await(errStalled, b.stall) // until the next Read, or wroteRequest
	case err != nil:
		b.await(errHeaderTimeout, b.header)
	}
	return n, err
}

func (b *requestBody) start() {
	if !b.started.Load() {
		b.starting.Lock()
		defer b.starting.Unlock()
		b.started.Store(true)
	}
}

// interim calls pass, which sends the viewer an interim answer, but not a 100
// once the body is being read: net/http sends one then. The two must not write
// to the viewer at the same time.
func (b *requestBody) interim(code int, pass func() error) error {
	b.starting.Lock()
	defer b.starting.Unlock()
	if code == http.StatusContinue && b.started.Load() {
		return nil
	}
	return pass()
}

// wroteRequest says that all of the request has gone into the tunnel.
func (b *requestBody) wroteRequest() { b.await(errHeaderTimeout, b.header) }

// viewersFault returns the error with which the viewer's body ended, if it did
// not end well.
func (b *requestBody) viewersFault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.readErr
}

// Close does nothing: see requestBody.
func (b *requestBody) Close() error { return nil }

// end closes the real body. It is to be called when the answer is over: for an
// HTTP/1.1 viewer it may end the request's context.
func (b *requestBody) end() {
	if b.src != nil {
		b.in.Body.Close()
	}
}

// announcedTrailers returns a map with the names of t that may be trailers. A
// forbidden one would make the peer reset the stream, and x/net then stop
// using the whole tunnel.
func announcedTrailers(t http.Header) http.Header {
	if len(t) == 0 {
		return nil
	}
	out := make(http.Header, len(t))
	for k := range t {
		if httpguts.ValidTrailerHeader(k) {
			out[k] = nil
		}
	}
	return out
}

// copyTrailers copies the values of announced trailers; others, which net/http
// adds too, cannot pass.
func (b *requestBody) copyTrailers() {
	for k := range b.out.Trailer {
		b.out.Trailer[k] = b.in.Trailer[k]
	}
}
