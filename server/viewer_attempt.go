package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/interim"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// attempt is one try to send an exchange's request by a carrier, which has admitted
// it by begin.
type attempt struct {
	x   *exchange
	via carrier

	ctx    context.Context // of the request in the tunnel; the attempt's own
	cancel context.CancelCauseFunc

	memory *budget.Holding              // for the tunnel: the header of a large answer, and what waits
	unread atomic.Pointer[streamMemory] // of an answer from another node, since its request has been sent

	long bool // so is the request's body, perhaps
	bulk bool // it has a large buffer

	mayRepeat  bool        // the request may be made twice
	repeatable atomic.Bool // it may, and has no answer yet

	isOver  atomic.Bool           // x/net may write the headers all the same, if it was cancelled
	written atomic.Bool           // the request's headers have been written
	stream  atomic.Uint32         // in the tunnel, once they have; 0: none
	bad     atomic.Pointer[error] // the fault of an interim answer; x/net does not return it

	// told is why another node breaks the answer off, as it says; nil: it has said nothing.
	told atomic.Pointer[failure]

	traceOver func(status int) // nil if nobody traces it
	status    int              // of the answer; 0: there is none

	interims interim.Limit // owned by the goroutine that reads of the carrier's connection
}

// roundTrip sends req and returns its answer, checked. The carrier's end is called
// when the answer is over.
func (a *attempt) roundTrip(req *http.Request) (*http.Response, error) {
	a.ctx, a.cancel = context.WithCancelCause(req.Context())
	a.memory = a.x.srv.memory.holdTunnel(a.x.cut, a.x.tunnel)
	a.memory.Pins(pinned)
	a.x.inTunnel.Store(a.memory)
	out := req.WithContext(a.traced())
	a.traceSending(out)
	body := &a.x.body
	body.limit(a.via.limits(a.x.live))
	body.attach(req, out, a.via.counter(), a.cancel)
	a.long = body.isLong(out)
	a.bulk = a.long && a.x.srv.buffers.bodies.take()
	a.markHop(out)
	a.repeatable.Store(a.mayRepeat)

	head := time.AfterFunc(a.x.srv.headWait, a.headOverdue)
	resp, err := a.via.transport().RoundTrip(out)
	head.Stop()
	if may, still := a.mayRepeat, a.repeatable.Swap(false); err == nil && may && !still {
		resp.Body.Close()
		err = errNodeSilent
	}
	if err == nil {
		if err = a.hopRefusal(resp); err == nil {
			body.answered()
			a.x.tunnelProto = cmp.Or(h2conn.UpgradeForm(resp), protoHTTP2)
			a.x.targetProto = takeTargetProto(resp.Header)
			err = checkAnswer(resp)
		}
		if err == nil {
			err = a.admitAnswer(resp)
		}
		if err != nil {
			resp.Body.Close()
		}
	}
	if err != nil {
		err = a.explain(req, err)
		if errors.Is(err, failBadAnswer) {
			a.via.slowDown()
		}
		a.over()
		return nil, err
	}
	resp.Request = req
	if resp.StatusCode == http.StatusSwitchingProtocols && req.Method != http.MethodGet {
		// Response.Write adds "Content-Length: 0" to the 101 for a POST.
		get := *req
		get.Method = http.MethodGet
		resp.Request = &get
	}
	a.status = resp.StatusCode
	a.x.answer = newAnswerBody(a, resp)
	return resp, nil
}

// headOverdue ends a request that has waited too long until it was sent.
func (a *attempt) headOverdue() {
	if !a.written.Load() {
		a.cancel(errBusy)
	}
}

// over ends the attempt. It must be called once.
func (a *attempt) over() {
	a.x.body.stop()
	a.cancel(nil)
	a.isOver.Store(true)
	a.dischargeAnswer()
	a.memory.Release()
	if a.bulk {
		a.x.srv.buffers.bodies.give()
	}
	if stream := a.stream.Load(); stream > 0 {
		a.via.transport().TrailersRead(stream)
	}
	a.via.end()
	if a.traceOver != nil {
		a.traceOver(a.status)
	}
}

// explain returns the cause of a round trip's error.
func (a *attempt) explain(req *http.Request, err error) error {
	here := req.Context().Err() == nil
	if c := cause(a.ctx); c != nil && here && !errors.Is(c, errClosed) {
		err = c // ours: a timeout
	}
	if b := a.bad.Load(); b != nil {
		err = *b
	}
	if f := a.broke(err); f != nil && here {
		err = fmt.Errorf("%w: %w", f, err)
	}
	if strings.Contains(err.Error(), "response header list larger than") { // x/net has no type for it
		err = fmt.Errorf("%w: %w", failBadAnswer, err)
	}
	if e := a.x.body.fault(); e != nil && here {
		err = fmt.Errorf("%w: %w", failBadBody, e)
	}
	return err
}

// sent reports whether the client may have seen any of the request.
func (a *attempt) sent() bool { return a.written.Load() || a.x.body.started() }

// tracedContext is a context with a trace in the place of the one that ReverseProxy
// has put there. [httptrace.WithClientTrace] could only add one, and both would
// be called. It undoes ReverseProxy's way with interim answers: ReverseProxy passes
// on all of them, also a 101 that would make a proxy in front take the connection for
// a raw pipe, and changes the viewer's headers meanwhile.
type tracedContext struct {
	context.Context
	trace *httptrace.ClientTrace
}

func (c tracedContext) Value(key any) any {
	v := c.Context.Value(key)
	if _, ok := v.(*httptrace.ClientTrace); ok {
		return c.trace
	}
	return v
}

// traced returns the attempt's context with the hooks into the request in the
// tunnel. Those of Go code that has its own are kept.
func (a *attempt) traced() context.Context {
	own := httptrace.ClientTrace{
		WroteHeaders: func() {
			tr := a.via.transport()
			a.stream.Store(tr.LastStream())
			if a.long {
				tr.BodyBuffer(a.bulk)
			}
			a.chargeAnswer()
			a.written.Store(true)
		},
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				a.x.body.sent()
			}
		},
	}
	if a.x.w != nil {
		own.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
			return a.gotInterim(code, h, a.x.w.interim)
		}
		return tracedContext{a.ctx, &own}
	}
	callers := httptrace.ContextClientTrace(a.ctx)
	if callers == nil || callers.Got1xxResponse == nil {
		// Nobody looks at them, but x/net has a bound for them, unless somebody does.
		own.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
			return a.gotInterim(code, h, func(int, http.Header) error { return nil })
		}
		return httptrace.WithClientTrace(a.ctx, &own)
	}
	ctx := httptrace.WithClientTrace(a.ctx, &own)
	both := *httptrace.ContextClientTrace(ctx)
	both.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
		return a.gotInterim(code, h, func(code int, h http.Header) error {
			return callers.Got1xxResponse(code, textproto.MIMEHeader(h))
		})
	}
	return tracedContext{ctx, &both}
}

// gotInterim checks one interim answer and passes it on.
func (a *attempt) gotInterim(code int, h textproto.MIMEHeader, pass func(int, http.Header) error) error {
	if a.hopReady(h) {
		return nil
	}
	ok, err := a.checkInterim(code, http.Header(h))
	if err != nil {
		a.bad.Store(&err)
		return err
	}
	if !ok {
		return nil
	}
	return pass(code, http.Header(h))
}

// checkInterim reports whether an interim answer may pass on, and removes from it
// what must not. The error means that the whole answer is bad.
func (a *attempt) checkInterim(code int, h http.Header) (bool, error) {
	if code < 100 || code > 199 || code == http.StatusSwitchingProtocols {
		return false, fmt.Errorf("%w: status %d where only an interim one can be", failBadAnswer, code)
	}
	ok, err := a.interims.Admit(h)
	if err != nil {
		return false, fmt.Errorf("%w: %w", failBadAnswer, err)
	}
	cleanHeader(h)
	delete(h, wire.HeaderError)
	return ok || code == http.StatusContinue, nil // that one means something
}
