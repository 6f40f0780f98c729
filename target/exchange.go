package target

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/interim"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// exchange is one request of a viewer and the target's answer, as the tunnel
// client sees them: it asks the target once, where package server's exchange may
// take several attempts. It has its own httputil.ReverseProxy, whose steps are
// methods of the exchange:
//
//	serve           begins
//	rewrite         makes the request to the target
//	RoundTrip       sends it and waits for the answer
//	modifyResponse  prepares the answer, or
//	handleError     makes one up for a target that has none
//	finish          ends it
//
// They run in the goroutine of the handler, one after the other. Other goroutines
// touch the exchange too:
//
//	net/http's Transport     reads the request's body and, until RoundTrip has
//	                         returned, calls the hooks of the trace; ReverseProxy's own
//	                         hook passes interim answers to writer.WriteHeader
//	an upgrade's two copies  the two ends of the connection
//	the late header's timer  writes the header of an answer whose body keeps it waiting
//
// What they share is atomic, or has a lock or a channel of its own.
type exchange struct {
	p     *Proxy
	proxy httputil.ReverseProxy
	log   log.Logger    // of proxy
	in    *http.Request // the viewer's
	body  requestBody
	w     writer

	// From rewrite on.
	prefix string // under which the viewer sees the target: see forwardedPrefix

	redirects *redirectRewriter // nil without Options.RewriteRedirects; set by rewrite

	// From RoundTrip on.
	cancel  context.CancelFunc // ends the request to the target; never nil
	uploads bool               // the request has a body
	trace   httptrace.ClientTrace
	conn    net.Conn    // to the target; nil before there is one
	unwatch func() bool // stops waiting for the end of conn; nil if nothing does
	answer  answerBody
	upgrade *upgrade // nil if the target has not switched protocols

	interims interim.Limit
	flooded  atomic.Bool // by interim answers

	outcome   outcome
	reported  bool                             // handleError has logged the failure
	traceOver func(status int, failure string) // nil if nobody traces it
}

func newExchange(p *Proxy, w http.ResponseWriter, r *http.Request) *exchange {
	ex := &exchange{p: p, in: r, cancel: func() {}}
	ex.body.ReadCloser = r.Body
	if r.ProtoMajor == 2 && r.Body != nil && r.Body != http.NoBody {
		ex.body.closable = true
		ex.in = r.WithContext(r.Context()) // the caller's stays as it is
		ex.in.Body = &ex.body
	}
	ex.w = writer{ResponseWriter: w, ex: ex, length: -1}
	ex.proxy = httputil.ReverseProxy{
		Rewrite:        ex.rewrite,
		Transport:      ex,
		FlushInterval:  0, // writer flushes by itself where the length is known
		ErrorLog:       &ex.log,
		BufferPool:     (*copyBuffers)(ex),
		ModifyResponse: ex.modifyResponse,
		ErrorHandler:   ex.handleError,
	}
	ex.log.SetOutput((*exchangeLog)(ex))
	ex.outcome.began = time.Now()
	return ex
}

// exchangeLog is an exchange as the writer of what its ReverseProxy has to say.
type exchangeLog exchange

func (l *exchangeLog) Write(p []byte) (int, error) {
	l.p.errorLog.WriteAbout(p, (*exchange)(l).requestID())
	return len(p), nil
}

// requestID returns what the service calls the request, or "".
func (ex *exchange) requestID() string {
	id := ex.in.Header.Get(wire.HeaderRequestID)
	return id[:min(len(id), wire.MaxRequestID)]
}

// logger returns the logger for lines about the request.
func (ex *exchange) logger() *zerolog.Logger {
	log := ex.p.log
	if id := ex.requestID(); id != "" {
		log = log.With().Str("request_id", id).Logger()
	}
	return &log
}

// serve is the whole exchange. It panics with http.ErrAbortHandler if the answer
// breaks off.
func (ex *exchange) serve() {
	defer ex.finish()
	if ex.in.Method == http.MethodConnect {
		// Not a request for this target, and httputil could not carry it.
		ex.w.status = http.StatusMethodNotAllowed
		http.Error(ex.w.ResponseWriter, "CONNECT is not supported", http.StatusMethodNotAllowed)
		return
	}
	ex.proxy.ServeHTTP(&ex.w, ex.in)
	ex.p.response.removeTrailers(ex.w.Header())
}

// switchGrace is how long net/http may take to say that it has written a request which the
// target has read, and answered, already.
const switchGrace = time.Second

// closedWithin reports whether c is closed within d.
func closedWithin(c <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// RoundTrip implements [http.RoundTripper], for one request. Until there is an
// answer, the end of the connection to the target ends the body of the request as
// well; what the answer leaves of an upload is not affected by it.
func (ex *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	upgrade := r.Header.Get("Upgrade") != ""
	ctx, cancel := context.WithCancel(r.Context())
	ex.cancel = cancel
	ex.uploads = r.Body != nil && r.Body != http.NoBody
	if ex.uploads && !upgrade {
		ex.body.expect = newExpectation(r, ctx.Done())
		if ex.p.http2 != nil {
			ex.body.keep()
		}
	}
	// The only hooks of the exchange. Those of ReverseProxy are others.
	ex.trace.GotConn = ex.gotConn
	ex.body.expect.trace(&ex.trace)
	var whole chan struct{} // closed when all of the request has been written; nil: nobody wants to know
	if upgrade && ex.uploads {
		whole = make(chan struct{})
		written := sync.OnceFunc(func() { close(whole) })
		ex.trace.WroteRequest = func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				written()
			}
		}
	}
	out := r.WithContext(httptrace.WithClientTrace(ctx, &ex.trace))
	if ex.uploads {
		out.Body = &ex.body
	}

	resp, err := ex.send(out, upgrade)
	if ex.unwatch != nil {
		ex.unwatch()
	}
	if ex.flooded.Load() {
		if err == nil {
			resp.Body.Close()
		}
		err = interim.ErrFlood
	}
	if err != nil {
		return nil, err
	}
	ex.outcome.answered, ex.outcome.protocol = time.Now(), resp.Proto
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		if ex.uploads && !closedWithin(whole, switchGrace) {
			// net/http goes on with the body, on the connection that would carry the
			// other protocol.
			resp.Body.Close()
			return nil, errEarlySwitch
		}
		protocol := resp.Header.Get("Upgrade")
		chooseProtocol(r.Header, protocol)
		ex.upgrade = newUpgrade(ex.in.Context(), protocol, ex.conn, rwc)
		resp.Body = &ex.upgrade.target
		return resp, nil
	}
	ex.answer = answerBody{resp.Body, resp.Body, ex}
	resp.Body = &ex.answer
	return resp, nil
}

// admitInterim reports whether an interim answer may pass on. A flood of them ends
// the request to the target.
func (ex *exchange) admitInterim(status int, h http.Header) bool {
	ok, err := ex.interims.Admit(h)
	if err != nil {
		ex.flooded.Store(true)
		ex.cancel()
	}
	return ok || err == nil && status == http.StatusContinue // that one means something
}

// gotConn is called with each connection on which net/http tries the request.
func (ex *exchange) gotConn(i httptrace.GotConnInfo) {
	if ex.unwatch != nil {
		ex.unwatch()
		ex.unwatch = nil
	}
	ex.conn, ex.outcome.connected, ex.outcome.protocol = i.Conn, time.Now(), "HTTP/2.0"
	if c := http1Conn(i.Conn); c != nil {
		ex.outcome.protocol = "HTTP/1.1"
		c.head.expect()
		ex.body.settle()
		if ex.uploads && ex.body.closable {
			ex.unwatch = context.AfterFunc(c.closed, ex.body.end)
		}
	}
}

func (ex *exchange) modifyResponse(resp *http.Response) error {
	delete(resp.Header, wire.HeaderError) // these are not the target's to say
	delete(resp.Header, wire.HeaderTargetProto)
	if resp.StatusCode != http.StatusSwitchingProtocols && (resp.StatusCode < 200 || resp.StatusCode > 599) {
		return fmt.Errorf("%w: status %d", errBadStatus, resp.StatusCode)
	}
	if ex.p.password.due(ex.in, resp.Header) {
		ex.logger().Warn().Str("hint", "host mode keeps tunnels apart: VIEWER_DOMAIN at the service").
			Msg("the target asks for a password, which browsers send to other tunnels of the service too: all share one origin")
	}
	ex.redirects.apply(resp.Header)
	ex.p.response.apply(resp.Header)
	ex.p.response.remove(resp.Trailer)
	if headerSize(resp.Header) > maxHeader {
		return errHeaderTooLarge
	}
	ex.tellProto(resp.Header)
	if resp.StatusCode == http.StatusNotModified {
		dropBody(resp, &ex.answer)
	}
	length := resp.ContentLength
	_, named := resp.Header["Content-Length"]
	silent := length == 0 && !named
	if resp.Request.Method == http.MethodHead {
		length = 0
	}
	ex.w.expect(length, silent)
	return nil
}

// tellProto says in h, the header of the answer, what was spoken with the target.
func (ex *exchange) tellProto(h http.Header) {
	if ex.in.Header[wire.HeaderRequestID] != nil && ex.outcome.protocol != "" {
		h[wire.HeaderTargetProto] = []string{ex.outcome.protocol}
	}
}

// handleError answers a request to which the target gave no answer, or none that
// can be passed on.
func (ex *exchange) handleError(_ http.ResponseWriter, _ *http.Request, err error) {
	ex.failed(err)
	if ex.in.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the viewer has left: no answer, not an empty one
	}
	if answerCancelledGRPC(&ex.w, ex.in, err) {
		return
	}
	f := classify(err)
	log := ex.failureLog(err)
	line := log.Warn()
	if text := hint(err, ex.p.h2c); text != "" {
		line.Str("hint", text)
	}
	if name := faultyHeader(err); name != "" {
		line.Str("header", name)
	}
	line.Msg("the target failed")
	ex.reported = true
	h := ex.w.Header()
	clear(h)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set(wire.HeaderError, f.kind)
	ex.tellProto(h)
	ex.w.WriteHeader(f.status)
	fmt.Fprintln(&ex.w, f.text)
}

// failureLog returns the logger for a line about a failure of the target.
func (ex *exchange) failureLog(err error) zerolog.Logger {
	return ex.logger().With().Str("error", redact.Error(err)).Str("error_type", classify(err).kind).Str("method", fmt.Sprintf("%.40s", ex.in.Method)).Logger()
}

// failed notes an error of the way to the target, or of the answer. It may have
// its cause on the viewer's side.
func (ex *exchange) failed(err error) {
	if ex.in.Context().Err() != nil || ex.body.state.Load() == bodyBroken {
		ex.viewerFailed(err)
	} else if ex.outcome.fault == nil {
		ex.outcome.fault = &fault{hopTarget, err}
	}
}

// viewerFailed notes an error of the way to the viewer.
func (ex *exchange) viewerFailed(err error) {
	if ex.outcome.fault == nil {
		ex.outcome.fault = &fault{hopViewer, err}
	}
}

// finish is called once, when all is over, also after a panic. It closes everything
// that is open and completes the outcome. This is the place for everything that wants to
// know about finished requests.
func (ex *exchange) finish() {
	o := &ex.outcome
	if o.fault != nil && ex.w.status != 0 && ex.upgrade == nil {
		ex.w.Flush() // what breaks has begun
	}
	ex.w.late.Stop()
	o.fromViewer, o.toViewer = ex.body.read.Load(), ex.w.written
	if u := ex.upgrade; u != nil {
		_ = u.target.Close() // a ReverseProxy leaves it open if it cannot use it
		if ex.w.status == http.StatusSwitchingProtocols {
			o.upgrade = u.protocol
			o.fromViewer, o.toViewer = u.fromViewer.Load(), u.toViewer.Load()
		}
		if o.fault == nil {
			o.fault = u.fault.Load()
		}
	}
	ex.cancel()
	if ex.uploads {
		ex.body.settle()
		_ = ex.body.Close()
	}
	o.status = ex.w.status
	o.ended = time.Now()
	if o.failure() != "" && o.status != 0 && !ex.reported {
		log := ex.failureLog(o.fault.err)
		log.Warn().Int("status", o.status).Int64("sent_bytes", o.toViewer).Msg("the target broke off its answer")
	}
	if ex.traceOver != nil {
		ex.traceOver(o.status, o.failure())
	}
}
