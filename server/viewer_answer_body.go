package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// answerBody is the body of an answer out of a tunnel. That of a 101 is one too; in
// package target it is a targetEnd. Its Close is the end of the attempt that brought
// it, and of an exchange without a viewer.
//
//	open      Read returns what comes
//	at end    a Read has returned an error; of io.EOF, the trailers are there
//	closed    by ReverseProxy, the exchange or Go code: the first Close counts
//
// Trailers that must not reach a viewer are dropped at the end.
type answerBody struct {
	io.ReadCloser
	attempt *attempt
	resp    *http.Response
	stall   stallTimer // of Write, after an upgrade

	closing sync.Once
	over    atomic.Bool // Close was called: what fails now is no fault
	closed  error

	reading sync.Mutex // held by a Read of an upgrade, and by settle

	read, written atomic.Int64
	broken        atomic.Pointer[failure] // why the tunnel's side broke off; nil: it did not
	unread        atomic.Bool             // a Write has failed, which does not say why
}

// newAnswerBody puts an answerBody into resp. That of an upgrade is an
// io.ReadWriteCloser.
func newAnswerBody(a *attempt, resp *http.Response) *answerBody {
	b := &answerBody{ReadCloser: resp.Body, attempt: a, resp: resp}
	resp.Body = b
	if up, ok := b.ReadCloser.(upgradedBody); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		stall, _ := a.via.limits(a.x.live)
		b.stall.init(a.x, stall, func() { a.cancel(failStalled) })
		resp.Body = upgradedAnswer{b, up}
	}
	return b
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	b.attempt.via.counter().addSent(n)
	if m := b.attempt.unread.Load(); m != nil && n > 0 {
		m.held(-int64(n))
	}
	if err != nil {
		if len(b.resp.Trailer) > maxTrailers {
			b.attempt.via.slowDown()
		}
		checkTrailer(b.resp.Trailer)
		if errors.Is(err, io.EOF) && !b.attempt.x.fitsViewer(b.resp.Trailer) {
			err = fmt.Errorf("%w: trailers that the viewer does not take", failBadAnswer)
		}
		if !errors.Is(err, io.EOF) {
			b.breaks(err)
		}
	}
	return n, err
}

// breaks notes that the tunnel's side broke off, by err. The first reason counts.
func (b *answerBody) breaks(err error) {
	if b.over.Load() {
		return
	}
	x, ctx := b.attempt.x, b.attempt.ctx
	why := failAnswerBroke
	switch {
	case errors.As(err, &why), errors.As(cause(ctx), &why):
	case x.in.Context().Err() != nil:
		why = failViewerLeft
	default:
		if f := b.attempt.broke(err); f != nil {
			why = f
		}
	}
	b.isBroken(nil, why)
}

// isBroken makes why the reason, if it was before until now.
func (b *answerBody) isBroken(before, why *failure) {
	if b.broken.CompareAndSwap(before, why) {
		b.attempt.x.tellBroke(why)
	}
}

func (b *answerBody) Close() error {
	b.closing.Do(func() {
		x := b.attempt.x
		b.over.Store(true)
		b.settle()
		if b.resp.StatusCode != http.StatusSwitchingProtocols {
			// First, since x/net waits for a Read of the request's body to return, and
			// the viewer may wait for the end of the answer before it sends more.
			x.body.end()
		}
		b.closed = b.ReadCloser.Close()
		checkTrailer(b.resp.Trailer)
		b.attempt.over()
		if x.w == nil {
			x.body.end() // also after a 101, which has no other end
			x.finish()
		}
	})
	return b.closed
}

// settleTime is how long a stream that takes nothing more may go on for a Read. It ends
// by itself; were it cancelled at once, a Read could return that in place of the reason.
const settleTime = time.Second

// settle finds out why a Write into the tunnel failed, which is told to a Read only.
func (b *answerBody) settle() {
	if !b.unread.Load() || b.broken.Load() != failAnswerBroke {
		return
	}
	late := time.AfterFunc(settleTime, func() { b.attempt.cancel(nil) })
	defer late.Stop()
	b.reading.Lock()
	defer b.reading.Unlock()
	why := failTargetBroke
	if _, err := io.Copy(io.Discard, b.ReadCloser); err != nil {
		why = b.attempt.broke(err)
	}
	if why != nil {
		b.isBroken(failAnswerBroke, why)
	}
}

// report adds to o what only the body knows.
func (b *answerBody) report(o *outcome) {
	o.tunnelBroke = b.broken.Load()
	if b.resp.StatusCode == http.StatusSwitchingProtocols || b.attempt.x.w == nil {
		o.sent += b.read.Load()
	}
	o.received += b.written.Load()
}

type upgradedBody interface {
	io.ReadWriteCloser
	CloseWrite() error
}

var _ io.ReaderFrom = upgradedAnswer{}

// upgradedAnswer is the answerBody of an upgrade, whose other direction leads
// into the tunnel. A target that takes no bytes of it, although some are there,
// for the stall timeout, loses it.
type upgradedAnswer struct {
	*answerBody
	up upgradedBody
}

func (b upgradedAnswer) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	return b.answerBody.Read(p)
}

func (b upgradedAnswer) Write(p []byte) (int, error) {
	n, err := b.stall.write(b.up, p)
	b.written.Add(int64(n))
	b.attempt.via.counter().addReceived(n)
	if err != nil {
		b.unread.Store(true)
		b.breaks(err)
	}
	return n, err
}

// ReadFrom copies what src has into the tunnel. Where that is a viewer's connection,
// HTTP/2 reads from there itself.
func (b upgradedAnswer) ReadFrom(src io.Reader) (int64, error) {
	v, ok := src.(*upgradedViewer)
	up, from := b.up.(io.ReaderFrom)
	if !ok || !from {
		return io.Copy(struct{ io.Writer }{b}, src)
	}
	r := &viewerSource{upgradedViewer: v, b: b.answerBody}
	if c := viewerConnOf(v.Conn); c != nil {
		r.turn = &c.turn
	}
	n, err := up.ReadFrom(r)
	b.stall.stop()
	if err != nil && !r.broke {
		b.unread.Store(true)
		b.breaks(err)
	}
	return n, err
}

// viewerSource is a viewer's connection from which the tunnel takes bytes. What Read
// has returned waits until the next Read.
type viewerSource struct {
	*upgradedViewer
	b     *answerBody
	turn  *turn // of an HTTP/1 connection; nil: of none
	broke bool  // Read has failed
	over  bool  // the tunnel takes nothing more
}

func (r *viewerSource) Read(p []byte) (int, error) {
	r.b.stall.stop()
	n, err := r.upgradedViewer.Read(p[:min(len(p), bodyPiece)])
	r.turn.end() // what has come goes into the tunnel, which may have to wait
	if n > 0 && !r.over {
		r.b.written.Add(int64(n))
		r.b.attempt.via.counter().addReceived(n)
		r.b.stall.start()
	}
	r.broke = r.broke || err != nil && !errors.Is(err, io.EOF) && !r.interrupted.Load()
	return n, err
}

// ResumeRead is called when the tunnel takes nothing more, and what comes is for its Write
// to refuse.
func (r *viewerSource) ResumeRead() {
	r.over = true
	r.upgradedViewer.ResumeRead()
}

// CloseWrite ends the direction into the tunnel.
func (b upgradedAnswer) CloseWrite() error { return b.up.CloseWrite() }
