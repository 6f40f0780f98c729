package server

import "net/http"

// RequestTrace follows one request through the service: [Config.TraceRequest] makes
// it. Functions that are nil are not called.
type RequestTrace struct {
	// Sending is called each time that the request is about to go into the tunnel,
	// with the headers that it has there, which it may change: traceparent, so that
	// the tunnel client and the target belong to the trace. It must not block. What
	// it returns, if not nil, is called once, when that try is over, with the status
	// of the answer out of the tunnel; 0 if there was none.
	Sending func(h http.Header) (over func(status int))

	// Done is told what has become of the request, when it is over, as
	// [Config.RequestDone] is. It must not block, and not change the RequestInfo.
	Done func(*RequestInfo)
}

// recording reports whether somebody wants to know of requests.
func (s *Server) recording() bool { return s.cfg.RequestDone != nil || s.cfg.TraceRequest != nil }

// begin begins the trace of a request with the headers h, if there is to be one.
func (s *Server) begin(i *RequestInfo, h http.Header) *RequestInfo {
	if trace := s.cfg.TraceRequest; trace != nil {
		i.trace = trace(i, h)
	}
	return i
}

// tell says what has become of a request.
func (s *Server) tell(i *RequestInfo) {
	if t := i.trace; t != nil {
		i.trace = nil
		if t.Done != nil {
			t.Done(i)
		}
	}
	if done := s.cfg.RequestDone; done != nil {
		done(i)
	}
}

// traceSending says that the attempt is about to send out, which may get other headers
// for it.
func (a *attempt) traceSending(out *http.Request) {
	i := a.x.info
	if i == nil || i.trace == nil || i.trace.Sending == nil {
		return
	}
	out.Header = out.Header.Clone() // the next attempt, and Go code, have theirs
	a.traceOver = i.trace.Sending(out.Header)
}
