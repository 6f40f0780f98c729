package server

import (
	"bufio"
	"errors"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/interim"
	"github.com/websocktunnel/websocktunnel/internal/lateheader"
)

// headerPatience is how long the header of an answer whose length is known waits for the
// first bytes of its body. HTTP/2's server at the other end sends the two in turns, between
// which all other requests of the tunnel have theirs: with 256 of them at work a third of
// the bodies come more than a millisecond later, and a fifth more than ten.
const headerPatience = 25 * time.Millisecond

// viewerWriter is the ResponseWriter that ReverseProxy writes a viewer's answer
// to, and our own failures too. It keeps net/http from adding to the answer what
// the target did not send, and ends an answer of which an HTTP/2 viewer takes
// nothing although the connection is alive.
//
//	interim   1xx answers go out as they come, each by a goroutine of its own:
//	          a viewer that takes none must not hold up its tunnel
//	begun     the final header has been written; interim ones are dropped
//	closed    the exchange is over, and nothing of the ResponseWriter is used
//
// # 100 Continue
//
// All that the service does about it is here. The body of a request with
// "Expect: 100-continue" is asked for by the target, whose 100 comes as an
// interim answer, or by h2conn after a second, which reads it. Before the first
// Read the viewer gets a 100 from us, if it waits for one: net/http would send
// one then by itself, and at the same time as an interim answer goes out.
// WriteHeader(100) keeps it from that. x/net's server takes the header Expect
// out of requests and sends the 100 itself, through the one goroutine that writes.
type viewerWriter struct {
	http.ResponseWriter
	x     *exchange
	rc    *http.ResponseController
	stall stallTimer // of a write; HTTP/2 only: viewerConn looks after others

	noInterim bool // the viewer does not know 1xx (RFC 9110, section 15.2)
	expects   bool // it waits for a 100, which net/http would send

	wrote bool             // the final header has been written; owned by the handler
	late  lateheader.Timer // sends it if the body keeps it waiting

	// header is that of the answer until it is written. It is not the server's
	// own, which interim answers use meanwhile.
	header http.Header

	mu      sync.Mutex
	queue   []interimAnswer // that have to go out
	drained chan struct{}   // non-nil while a goroutine sends them; closed when it ends
	begun   bool            // no more interim answers

	// continued says that the viewer has got a 100, or has one in queue, or sends
	// its body without waiting for one.
	continued bool

	sent     atomic.Int64
	failed   atomic.Bool // a write has failed
	upgraded atomic.Pointer[upgradedViewer]

	// Owned by the handler.
	status  int
	begunAt time.Time
}

// maxInterim is how many interim answers may wait for a viewer that takes none.
const maxInterim = interim.Burst

type interimAnswer struct {
	status int
	header http.Header
	cost   int64           // of the header, charged to the tunnel
	tunnel *budget.Holding // nil: nothing is
}

func newViewerWriter(x *exchange, w http.ResponseWriter) *viewerWriter {
	vw := &viewerWriter{ResponseWriter: w, x: x, rc: http.NewResponseController(w), header: make(http.Header)}
	if x.http1 {
		vw.noInterim = x.in.ProtoMinor == 0
		vw.expects = !vw.noInterim && x.in.ContentLength != 0 && httpguts.HeaderValuesContainsToken(x.in.Header["Expect"], "100-continue")
		vw.stall.init(x, 0, nil)
	} else {
		vw.stall.init(x, x.viewerStall(), func() { vw.rc.SetWriteDeadline(time.Unix(1, 0)) })
	}
	return vw
}

// Header returns the header of the final answer.
func (w *viewerWriter) Header() http.Header {
	if w.wrote {
		return w.ResponseWriter.Header() // for trailers
	}
	return w.header
}

// interim sends an interim answer soon, in its turn. It does not wait for the
// viewer.
func (w *viewerWriter) interim(status int, h http.Header) error {
	if w.noInterim {
		return nil
	}
	h = maps.Clone(h)
	w.x.srv.isolation.apply(h, w.x.route)
	if !w.x.fitsViewer(h) {
		return nil // the final answer matters more
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if status != http.StatusContinue || !w.continued {
		w.queueLocked(status, h)
	}
	return nil
}

func (w *viewerWriter) queueLocked(status int, h http.Header) {
	if w.begun || len(w.queue) >= maxInterim && status != http.StatusContinue {
		return
	}
	next := interimAnswer{status: status, header: h}
	if cost := answerCost(h); cost > plainAnswer {
		next.cost, next.tunnel = cost, w.x.inTunnel.Load()
		if next.tunnel == nil || next.tunnel.Admit(cost) != nil {
			return // nothing depends on it
		}
	}
	w.continued = w.continued || status == http.StatusContinue
	w.queue = append(w.queue, next)
	if w.drained == nil {
		w.drained = make(chan struct{})
		go w.sendQueue(w.drained)
	}
}

func (w *viewerWriter) sendQueue(drained chan struct{}) {
	defer close(drained)
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			w.drained = nil
			w.mu.Unlock()
			return
		}
		next := w.queue[0]
		w.queue = w.queue[1:]
		w.mu.Unlock()
		w.writeInterim(next.status, next.header)
		if next.tunnel != nil {
			next.tunnel.Add(-next.cost)
		}
	}
}

func (w *viewerWriter) writeInterim(status int, h http.Header) {
	header := w.ResponseWriter.Header()
	final := maps.Clone(header) // what a handler around us has set
	clear(header)
	maps.Copy(header, h)
	w.stall.start()
	h2conn.WriteHeader(w.ResponseWriter, status)
	w.stall.stop()
	clear(header)
	maps.Copy(header, final)
}

// sendContinue is called before the body of the request is first read. It returns
// when a viewer that waits for a 100 has got it, from the target or from us.
func (w *viewerWriter) sendContinue() {
	w.mu.Lock()
	if w.expects && !w.continued {
		w.queueLocked(http.StatusContinue, nil)
	}
	w.continued = true
	drained := w.drained
	w.mu.Unlock()
	if w.expects && drained != nil {
		<-drained
	}
}

// endInterim makes sure that no interim answer goes out any more.
func (w *viewerWriter) endInterim() {
	w.mu.Lock()
	w.begun = true
	drained := w.drained
	w.mu.Unlock()
	if drained != nil {
		<-drained
	}
}

// close ends the use of the server's ResponseWriter.
func (w *viewerWriter) close() {
	w.late.Stop()
	w.endInterim()
}

// madeUp are the headers that net/http makes up when they are absent. A nil
// value keeps it from that.
var madeUp = [...]string{"Content-Type", "Date"}

// WriteHeader writes the final header. What it needs to know of the answer it
// takes from the exchange.
func (w *viewerWriter) WriteHeader(status int) {
	if w.wrote {
		return
	}
	w.endInterim()
	h := w.header
	for _, k := range madeUp {
		if _, ok := h[k]; !ok {
			h[k] = nil
		}
	}
	if _, ok := h["Content-Length"]; !ok && w.emptyBody() {
		h["Content-Length"] = nil // gRPC's answers of trailers only have none
	}
	if w.x.last() {
		h.Set("Connection", "close") // over HTTP/2, x/net makes a GOAWAY of it
	}
	maps.Copy(w.ResponseWriter.Header(), h)
	w.wrote = true
	w.status, w.begunAt = status, time.Now()
	w.stall.start()
	w.ResponseWriter.WriteHeader(status)
	w.stall.stop()
	switch {
	case w.x.final == nil:
	case w.x.final.ContentLength < 0:
		// Before the end is known, or an empty body would get a length.
		_ = w.FlushError()
	case w.x.final.ContentLength > 0 && w.x.in.Method != http.MethodHead:
		w.late.Start(headerPatience, func() { _ = w.flush() })
	}
}

// emptyBody reports whether the answer is the tunnel's and known to have no body.
func (w *viewerWriter) emptyBody() bool { return w.x.final != nil && w.x.final.ContentLength == 0 }

// Flush sends what has been written. It does nothing for an answer without a body:
// ReverseProxy flushes one with trailers, and an event stream, and that would race with
// the trailers, which gRPC's errors consist of.
func (w *viewerWriter) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] looks for.
func (w *viewerWriter) FlushError() error {
	if !w.wrote || w.emptyBody() {
		return nil
	}
	w.late.Stop()
	return w.flush()
}

func (w *viewerWriter) flush() error {
	w.stall.start()
	defer w.stall.stop()
	return w.rc.Flush()
}

func (w *viewerWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	w.late.Stop()
	n, err := w.stall.write(w.ResponseWriter, p)
	sent := w.sent.Add(int64(n))
	if err == nil && w.flushes(sent) {
		err = w.flush()
	}
	if err != nil {
		w.failed.Store(true)
	}
	return n, err
}

// flushes reports whether to flush what has been written, sent bytes of the body
// so far. Where the length is not known ReverseProxy flushes, and what is whole
// leaves when the handler returns, which is soon if nothing more is to be read of
// the request.
func (w *viewerWriter) flushes(sent int64) bool {
	return w.x.final != nil && w.x.final.ContentLength > 0 && (sent < w.x.final.ContentLength || !w.x.body.over())
}

// report adds to o what only the writer knows.
func (w *viewerWriter) report(o *outcome) {
	o.status, o.begun = w.status, w.begunAt
	o.sent += w.sent.Load()
	o.broken = o.broken || w.failed.Load()
}

// Unwrap gives [http.ResponseController] the server's ResponseWriter.
func (w *viewerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// lost says that what was hijacked broke before the viewer had an answer.
func (w *viewerWriter) lost() {
	w.failed.Store(true)
	w.status, w.begunAt = 0, time.Time{}
}

// Hijack is how ReverseProxy switches protocols.
func (w *viewerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.late.Stop()
	w.endInterim()
	for k, v := range w.header {
		if len(v) == 0 {
			delete(w.header, k)
		}
	}
	c, brw, err := w.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.status, w.begunAt = http.StatusSwitchingProtocols, time.Now()
	u := newUpgradedViewer(w.x, c, brw)
	w.upgraded.Store(u)
	return u, brw, nil
}

// resetOnAbort is to be deferred around an answer to an HTTP/1.0 viewer. The
// end of a body without a length is the end of the connection there, so that
// after a fault the connection has to end in a reset.
func (w *viewerWriter) resetOnAbort() {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		if c, _, err := w.rc.Hijack(); err == nil {
			reset(c)
			return
		}
	}
	panic(p)
}
