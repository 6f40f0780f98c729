package server

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/replay"
)

const (
	// A request body is read in pieces, because progress towards the target is
	// seen between them only: in small ones where it is slow, in large ones where it is
	// fast.
	bodyPiece     = 32 << 10 // at first
	slowBodyPiece = 1 << 10
	fastBodyPiece = 256 << 10

	// fastPart is which part of the stall limit a piece takes at most where larger ones may
	// follow: what then becomes slow has to move one of them within the limit.
	fastPart = 1000

	// A body that is not longer than smallBody needs no large buffer.
	smallBody = 64 << 10

	// readGrace is how long the end of an answer waits for a Read of the request,
	// which may have all it needs. Only then is the Read cut short.
	readGrace = 20 * time.Millisecond

	// closeGrace is how long a round trip may go on whose body x/net has closed while a
	// Read of it waits for the viewer. With an answer it ends at once.
	closeGrace = time.Second
)

// errClosed ends a round trip that x/net has given up, but for a Read of the viewer's body.
var errClosed = errors.New("server: the transport has closed the request's body")

// requestBody is the body of an exchange's request on its way into a tunnel. It
// outlives an attempt, so its Close ends no more than that, where package target's
// may close the viewer's body. What has been read is kept for another attempt, up
// to replay.Limit, until there is an answer.
//
//	unread   nothing of it has been asked for; the request may go elsewhere
//	reading  a part may have been read
//	whole    all of it has been read
//	failed   reading it has failed
//	ended    the answer is over: Read fails, and what reads is cut short
//
// It times the two things that only it can see: that the tunnel has taken no
// bytes although some are there, and that the request is whole and no answer
// comes. A request without a body has only the second timer.
//
// HTTP/2's transport closes the body in any case, although the request may be
// tried again, or its answer be still under way. So the exchange ends the viewer's
// body, with end.
type requestBody struct {
	x    *exchange
	src  io.ReadCloser // nil: no body
	kept *replay.Body  // of src

	announced http.Header // the names of its trailers, as [announcedTrailers] returns them

	read atomic.Int64 // bytes

	// Of the attempt.
	try     *bodyTry
	in, out *http.Request // the trailers of in arrive with the end of src; out gets the valid ones
	cancel  context.CancelCauseFunc
	traffic *traffic  // of the session
	readAt  time.Time // when the last piece was read; owned by the reader
	piece   int       // size of the next one; owned by the reader
	taken   int64     // bytes; owned by the reader

	counted int64 // bytes that a session's traffic has, whichever try took them; owned by the reader

	mu     sync.Mutex
	state  bodyState
	err    error         // of failed
	inRead bool          // a Read of src is under way
	idle   chan struct{} // non-nil while end waits for it; closed when it returns

	stall stallTimer // of the tunnel, which takes nothing; between two Reads
	head  stallTimer // of the target, whose answer does not come; once all is sent
	shut  stallTimer // of the transport, which has closed the body and returns no answer
}

type bodyState int

const (
	bodyUnread bodyState = iota
	bodyReading
	bodyWhole
	bodyFailed
	bodyEnded
)

// init is for the body src of a request whose trailers are announced in trailer. Their
// values come with the end of src. Nothing has been read of it yet: afterwards a Read for
// one attempt may add trailers while another attempt begins.
func (b *requestBody) init(x *exchange, src io.ReadCloser, trailer http.Header) {
	b.x = x
	b.announced = announcedTrailers(trailer)
	b.stall.init(x, x.live.StallTimeout, func() { b.cancel(failStalled) })
	b.head.init(nil, x.live.ResponseHeaderTimeout, func() { b.cancel(failHeaderTimeout) })
	if src != nil && src != http.NoBody {
		b.src = src
		b.kept = replay.New(bodySource{b})
		b.shut.init(nil, closeGrace, func() { b.cancel(errClosed) })
	}
}

// limit changes the limits for the next attempt.
func (b *requestBody) limit(stall, head time.Duration) {
	b.stall.limit(stall)
	b.head.limit(head)
}

// attach puts the body into out, a copy of in that is about to be sent by the
// session whose traffic that is. Limits that are exceeded call cancel.
func (b *requestBody) attach(in, out *http.Request, traffic *traffic, cancel context.CancelCauseFunc) {
	b.rewind() // before anything changes that the last attempt uses
	b.in, b.out, b.traffic, b.cancel = in, out, traffic, cancel
	b.readAt, b.piece, b.taken = time.Time{}, bodyPiece, 0
	b.stall.allow(true)
	b.head.allow(true)
	b.shut.allow(true)
	b.ready()
	if in.Header.Get("Upgrade") != "" {
		b.settle() // with the end of the body begins what belongs to another protocol
	}
	out.Trailer = maps.Clone(b.announced)
	if b.src != nil && in.Body != nil && in.Body != http.NoBody {
		b.try = &bodyTry{b: b}
		out.Body = b.try
		out.GetBody = nil
	} else { // an HTTP/2 viewer's request may have an empty one that ReverseProxy leaves out
		b.head.start()
	}
}

// nextPiece returns how large the piece is to be that follows one that has taken so long,
// where the limit for no progress is stall.
func nextPiece(piece int, took, stall time.Duration) int {
	switch {
	case took > stall/10:
		return max(piece/8, slowBodyPiece)
	case took < stall/fastPart:
		return min(piece*2, fastBodyPiece)
	case took < stall/100:
		return min(piece*2, max(piece, bodyPiece))
	}
	return piece
}

// isLong reports whether a large buffer could be of use for the body of out.
func (b *requestBody) isLong(out *http.Request) bool {
	return b.try != nil && (out.ContentLength < 0 || out.ContentLength > smallBody)
}

// answered says that the answer has begun.
func (b *requestBody) answered() {
	b.head.allow(false)
	b.shut.allow(false)
	b.settle()
}

// stop ends all timing of the attempt.
func (b *requestBody) stop() {
	b.stall.allow(false)
	b.head.allow(false)
	b.shut.allow(false)
}

// sent says that all of the request has gone into the tunnel.
func (b *requestBody) sent() {
	b.stall.stop()
	b.head.start()
}

func (b *requestBody) Read(p []byte) (int, error) {
	// Here because what was read before has been taken.
	b.stall.stop()
	b.head.stop()
	if !b.readAt.IsZero() {
		stall := cmp.Or(b.x.live.StallTimeout, defaultStallTimeout)
		b.piece = nextPiece(b.piece, time.Since(b.readAt), stall)
	}
	if b.isEnded() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.kept.Read(p[:min(len(p), b.piece)])
	if b.taken += int64(n); b.taken > b.counted {
		b.traffic.addReceived(int(b.taken - b.counted))
		b.counted = b.taken
	}
	b.readAt = time.Now()
	if errors.Is(err, io.EOF) {
		b.copyTrailers()
	}
	switch {
	case n > 0:
		b.stall.start() // until the next Read, or sent
	case err != nil:
		b.head.start()
	}
	return n, err
}

// bodySource reads what the viewer sends, once.
type bodySource struct{ b *requestBody }

func (s bodySource) Read(p []byte) (int, error) {
	b := s.b
	if err := b.beginRead(); err != nil {
		return 0, err
	}
	n, err := b.src.Read(p)
	b.endRead(err)
	b.read.Add(int64(n))
	return n, err
}

// rewind begins another attempt, and reports false if a part of the body is gone.
func (b *requestBody) rewind() bool {
	if b.try != nil {
		b.try.end()
		b.try = nil
	}
	return b.kept == nil || b.kept.Rewind()
}

// bodyTry is a requestBody for one attempt. An answer that comes before the request is
// whole does not end what the transport does with the body: it may read and close it
// later, when the next attempt has begun.
type bodyTry struct {
	b *requestBody

	reading sync.Mutex // held by Read
	mu      sync.Mutex // held while Close acts on b
	over    bool       // guarded by mu
}

func (t *bodyTry) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

func (t *bodyTry) Read(p []byte) (int, error) {
	t.reading.Lock()
	defer t.reading.Unlock()
	if t.isOver() {
		return 0, http.ErrBodyReadAfterClose
	}
	return t.b.Read(p)
}

func (t *bodyTry) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil
	}
	return t.b.Close()
}

// end ends the attempt's use of the body. It waits for a Read under way where there can be
// another attempt: such a Read returns at once.
func (t *bodyTry) end() {
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	if t.b.kept.Interrupt() {
		t.reading.Lock()   // to see the end of Read
		t.reading.Unlock() //nolint:staticcheck // that is all
	}
}

// hold keeps a body that is too long to be read again from being read on, until ready.
func (b *requestBody) hold() { b.kept.Hold(true) }

// ready says that the request will not have to go elsewhere.
func (b *requestBody) ready() {
	if b.kept != nil {
		b.kept.Hold(false)
	}
}

// settle says that there will be no other attempt.
func (b *requestBody) settle() {
	if b.kept != nil {
		b.kept.Settle()
	}
}

func (b *requestBody) beginRead() error {
	b.mu.Lock()
	first := b.state == bodyUnread
	if !first && b.state != bodyReading {
		b.mu.Unlock()
		return http.ErrBodyReadAfterClose
	}
	b.state, b.inRead = bodyReading, true
	b.mu.Unlock()
	if first && b.x.w != nil {
		b.x.w.sendContinue()
	}
	return nil
}

func (b *requestBody) endRead(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inRead = false
	if b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
	switch {
	case err == nil || b.state == bodyEnded:
	case errors.Is(err, io.EOF):
		b.state = bodyWhole
	default:
		b.state, b.err = bodyFailed, err
	}
}

// started reports whether a part of the body may have been read.
func (b *requestBody) started() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.src != nil && b.state != bodyUnread
}

// whole reports whether all of the body has been read.
func (b *requestBody) whole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == bodyWhole
}

func (b *requestBody) isEnded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state == bodyEnded
}

// over reports whether there is nothing more to read.
func (b *requestBody) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.src == nil || b.state > bodyReading
}

// fault returns the error with which the viewer's body ended, if it did not end
// well.
func (b *requestBody) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Close ends the attempt: see requestBody. Where a Read waits for the viewer, who may never
// send more, it ends the round trip a little later, unless there is an answer.
func (b *requestBody) Close() error {
	if b.kept != nil && !b.kept.Interrupt() && !b.over() {
		b.shut.start()
	}
	return nil
}

// end ends the request although more of it may be to come: the answer is over.
// For an HTTP/1.1 viewer net/http would wait for the rest, and hold back the end
// of the answer. It would take a rest that was cut short for the next request.
// Therefore an answer that begins before the body is whole says that the connection
// ends with it: see exchange.last. It may end the context of the viewer's request.
func (b *requestBody) end() {
	if b.src == nil {
		return
	}
	cut := b.x.http1
	b.mu.Lock()
	if b.inRead && b.idle == nil && cut {
		idle := make(chan struct{})
		b.idle = idle
		b.mu.Unlock()
		select {
		case <-idle:
		case <-time.After(readGrace):
		}
		b.mu.Lock()
	}
	rest := b.state <= bodyReading
	if rest {
		b.state = bodyEnded
	}
	b.mu.Unlock()
	if rest {
		lingerOnClose(viewerConnOf(b.x.conn))
		if cut {
			b.x.w.rc.SetReadDeadline(time.Unix(1, 0))
		}
	}
	b.src.Close()
}

// announcedTrailers returns a map with the names of t that may be trailers, and
// that say nothing which a viewer must not say. A forbidden one would make the
// peer reset the stream.
func announcedTrailers(t http.Header) http.Header {
	if len(t) == 0 {
		return nil
	}
	out := make(http.Header, len(t))
	for k := range t {
		if mayTrail(k) && mayViewerSay(k, false) {
			out[k] = nil
		}
	}
	return out
}

// copyTrailers copies the values of announced trailers; others, which net/http
// adds too, cannot pass.
func (b *requestBody) copyTrailers() {
	for k := range b.out.Trailer {
		b.out.Trailer[k] = slices.Clone(b.in.Trailer[k]) // another attempt has its own
	}
	trimValues(b.out.Trailer)
}
