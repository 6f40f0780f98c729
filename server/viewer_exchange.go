package server

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// exchange is one request and its answer, as the service sees them: it may take
// several attempts and sessions, where package target's exchange asks its target
// once. For a viewer it is made by serveViewer. Its methods are the steps, most of them
// hooks of an [httputil.ReverseProxy] made for it alone, in this order:
//
//	serve         the whole
//	answerBare    what of the bare path is not for the target (viewer_bare.go)
//	finds         the tunnel's session, before anything is made for it
//	rewrite       the request that goes into the tunnel
//	RoundTrip     sends it (viewer_roundtrip.go: find a session, attempt)
//	gotInterim    1xx answers, as they come (viewer_attempt.go)
//	modifyAnswer  the answer that the viewer gets; or
//	fail          the answer of our own, if there is none
//	finish        what has happened is known: the outcome
//
// For Go code, by [Server.RoundTripper], it begins at send and ends when the
// answer's body is closed.
//
// Everything about the exchange is in its fields. Nothing travels in contexts, but
// for the connection that [http.Server.ConnContext] puts there, the local address, which
// net/http does, and the hooks of [net/http/httptrace].
type exchange struct {
	// Set by the constructor.
	srv    *Server
	live   *live         // for the whole of the exchange
	in     *http.Request // as it came; its Body is body
	id     string        // what the request is called: see requestID
	tunnel label
	from   netip.Addr // the address that it counts for; the zero Addr for Go code
	body   requestBody
	out    outcome

	// Set by the constructor, for viewers only.
	route  route
	proto  string         // what the viewer speaks
	http1  bool           // any version of it
	hop    *hopRequest    // nil unless another node has sent it
	conn   net.Conn       // the viewer's, if Serve has accepted it
	w      *viewerWriter  // nil for Go code
	memory *requestMemory // nil for Go code

	info *RequestInfo // nil if nobody wants it
	log  log.Logger   // for the ReverseProxy: see exchangeLog

	// Set by the steps.
	first    carrier                        // for the first attempt; nil: none has been looked for, or it is used up
	asksBare bool                           // the node that has the session is to judge the bare path
	avoid    shunned                        // a node that turned out not to have the session
	patience time.Time                      // until when to wait for another, then
	sought   time.Time                      // when the directory had none for the first time
	inTunnel atomic.Pointer[budget.Holding] // since the first attempt
	answer   *answerBody                    // since RoundTrip; nil if the tunnel gave no answer

	// What was spoken in the tunnel and with the target; empty if that is not known.
	tunnelProto, targetProto string

	tunnelNode string         // of the cluster, to which the last attempt went; empty: it stayed here
	final      *http.Response // since modifyAnswer; nil while the answer is none of the tunnel's

	finishing sync.Once
}

// serveViewer carries a viewer's request to the tunnel of rt.
func (s *Server) serveViewer(w http.ResponseWriter, r *http.Request, rt route, m *requestMemory) {
	if s.loops.passed(r.Header) {
		s.decline(w, r, rt, failLoop)
		return
	}
	if f := unencodable(r); f != nil {
		s.decline(w, r, rt, f)
		return
	}
	s.newExchange(w, r, rt, m).serve()
}

// newExchange returns the exchange of a viewer's request r, which is for the
// tunnel of rt and is answered to w.
func (s *Server) newExchange(w http.ResponseWriter, r *http.Request, rt route, m *requestMemory) *exchange {
	id := s.requestID(r)
	x := &exchange{
		srv: s, live: s.live.Load(), id: id, tunnel: rt.tunnel(),
		from:   subscriber(m.addr),
		route:  rt,
		proto:  viewerProto(w, r),
		memory: m,
		out:    outcome{start: time.Now()},
		info:   s.record(w, r, rt, id),
	}
	x.out.proto, x.http1 = x.proto, x.proto != protoHTTP2
	x.conn, _ = r.Context().Value(connKey{}).(net.Conn)
	if x.http1 && m.conn != nil {
		m.conn.turn.end()
	}
	x.open(w, r)
	return x
}

// open is the end of the constructors of exchanges that have somebody to answer: they
// carry r, and answer to w.
func (x *exchange) open(w http.ResponseWriter, r *http.Request) {
	in := *r
	x.in = &in
	x.log.SetOutput((*exchangeLog)(x))
	x.w = newViewerWriter(x, w)
	x.body.init(x, r.Body, r.Trailer)
	if x.body.src != nil {
		in.Body = &x.body
	}
	x.memory.Pins(pinned)
	x.memory.x.Store(x)
}

// exchangeLog is an exchange as the writer of what its ReverseProxy has to say.
type exchangeLog exchange

func (l *exchangeLog) Write(p []byte) (int, error) {
	l.srv.errorLines.write(p, l.id)
	return len(p), nil
}

// serve answers the viewer.
func (x *exchange) serve() {
	defer x.finish() // last of all
	http10 := x.http1 && x.in.ProtoMinor == 0
	if x.http1 && !http10 {
		// The answer may begin, and go on, while the request is still coming.
		_ = x.w.rc.EnableFullDuplex()
	}
	if http10 {
		if x.conn != nil {
			// Should the process be killed, the kernel closes the connection:
			// until the answer is whole this has to be a reset too.
			netconn.SetLinger(x.conn, 0)
			defer netconn.SetLinger(x.conn, -1)
		}
		defer x.w.resetOnAbort()
	}
	defer x.endRequest()
	defer func() {
		// ReverseProxy leaves the body of a 101 open that it does not like.
		if x.answer != nil {
			x.answer.Close()
		}
	}()
	defer func() {
		if x.out.broken {
			_ = x.w.FlushError() // what breaks has begun
		}
	}()
	proxy := httputil.ReverseProxy{
		Rewrite:        x.rewrite,
		Transport:      x,
		FlushInterval:  0, // viewerWriter flushes by itself where the length is known
		BufferPool:     (*copyBuffers)(x),
		ModifyResponse: x.modifyAnswer,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { x.fail(err) },
		ErrorLog:       &x.log,
	}
	x.out.broken = true // if it panics
	if !x.answerBare() && x.finds() {
		proxy.ServeHTTP(x.w, x.in)
	}
	x.out.broken = false
}

// waits and moves say that bytes wait for one of the sides from now on, and that
// they do not any more.
func (x *exchange) waits() {
	hs := x.holdings()
	budget.Wait(hs[:]...)
}

func (x *exchange) moves() {
	for _, h := range x.holdings() {
		if h != nil {
			h.Done()
		}
	}
}

// holdings returns what the exchange holds memory by: of the viewer's connection or
// request, of what is unread of that, and in the tunnel. Some may be nil.
func (x *exchange) holdings() (hs [3]*budget.Holding) {
	if x != nil && x.memory != nil {
		hs = [...]*budget.Holding{x.memory.Holding, x.memory.unread, x.inTunnel.Load()}
	}
	return hs
}

// cut ends an exchange in which bytes wait: memory is scarce.
func (x *exchange) cut() {
	if x.w == nil {
		return
	}
	switch u := x.w.upgraded.Load(); {
	case u != nil && u.x.answer != nil:
		u.x.answer.attempt.cancel(failStalled)
	case x.body.stall.expire(): // the viewer learns it
	case !x.http1 && x.w.stall.expire():
	case x.conn != nil:
		reset(x.conn)
	}
}

// endRequest ends the request before its handler returns. What net/http finds
// of a body after that, while full duplex is on, makes it panic at the next
// request of the connection (golang/go#68560).
func (x *exchange) endRequest() {
	if x.http1 && x.w.wrote && !x.body.over() {
		x.w.late.Stop()
		_ = x.w.rc.Flush() // the viewer is not to wait for what follows
	}
	x.body.end()
}

// finish is called once, when the exchange is over. The outcome is complete then.
// An access log, metrics and an inspector look at it here and nowhere else.
func (x *exchange) finish() {
	x.finishing.Do(func() {
		if x.w != nil {
			x.w.close()
			x.w.report(&x.out)
		}
		x.out.received += x.body.read.Load()
		if x.answer != nil {
			x.answer.report(&x.out)
		}
		x.out.end = time.Now()
		f := x.out.reason()
		if f == nil && x.memory != nil && x.memory.conn != nil {
			x.srv.turns.prove(&x.memory.conn.turn)
		}
		if f != nil && f.hop != hopViewer {
			x.srv.registry.noteFailure(x.tunnel, RequestFailure{Time: x.out.end, Status: x.out.status, Hop: string(f.hop), Error: f.kind, ErrorCode: string(f.code), RequestID: x.id})
		}
		if x.hop == nil { // the node that the viewer has come to counts it
			x.srv.cfg.Metrics.request(x.in.Method, &x.out)
		}
		x.done()
		if hook := x.srv.cfg.finished; hook != nil {
			hook(x)
		}
	})
}

// finds looks for the carrier of the first attempt, and reports whether there is one. If
// not, it answers: for a tunnel that is not there nothing is done with what the viewer has
// sent.
func (x *exchange) finds() bool {
	via, err := x.carrier(x.in.Context())
	if err != nil {
		x.fail(err)
		return false
	}
	x.first = via
	return true
}

// rewrite makes the request that goes into the tunnel.
func (x *exchange) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out

	// HTTP/1.0 can do without a Host; HTTP/2 cannot.
	out.Host = in.Host
	if out.Host == "" {
		out.Host = x.srv.cfg.publicURL.Host
	}
	out.URL = targetURL(out.Host, x.route)

	// ReverseProxy copies trailers at the start, when they have no values yet.
	out.Trailer = in.Trailer
	if x.hop != nil {
		x.hop.rewrite(pr) // the node that it comes from has done the rest
		return
	}

	offered := in.Header["Upgrade"]
	if _, ok := out.Header["Upgrade"]; ok && (len(offered) > 1 || httpguts.HeaderValuesContainsToken(offered, "h2c")) {
		// ReverseProxy has left the first line of it.
		if list := upgradeList(offered); list != "" {
			out.Header.Set("Upgrade", list)
		} else {
			out.Header.Del("Upgrade")
			out.Header.Del("Connection")
		}
	}
	out.Header.Del("Http2-Settings")

	x.srv.loops.mark(out.Header)
	x.live.forwarding.apply(out.Header, in, x.route.id, x.route.rawPath())
	if id := in.Header[wire.HeaderID]; x.route.ownHost && len(id) > 0 {
		out.Header[wire.HeaderID] = id // means nothing to us there
	}
	setRequestID(out.Header, x.id)
}

// RoundTrip is the Transport of the exchange's ReverseProxy.
func (x *exchange) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body = &x.body // ReverseProxy has hidden it in a wrapper
	}
	resp, err := x.send(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// ReverseProxy wants the one protocol that was asked for, but the
		// target has chosen from a list.
		if p := resp.Header.Get("Upgrade"); httpguts.HeaderValuesContainsToken(req.Header["Upgrade"], p) {
			req.Header["Upgrade"] = []string{p}
		}
	}
	return resp, nil
}

// modifyAnswer makes the answer that the viewer gets.
func (x *exchange) modifyAnswer(resp *http.Response) error {
	if hook := x.srv.cfg.answered; hook != nil {
		hook(resp)
	}
	if x.hop != nil {
		x.final = resp // as it is: the other node judges it, and makes the record
		if kind := resp.Header.Get(wire.HeaderError); kind != "" {
			x.out.failure = clientFailure(resp.StatusCode, kind) // for what is known of the tunnel
		}
		if x.targetProto != "" {
			resp.Header[wire.HeaderTargetProto] = []string{x.targetProto}
		}
		return nil
	}
	if kind := resp.Header.Get(wire.HeaderError); kind != "" {
		// The tunnel client has no answer from its target, and says why.
		if err := x.in.Context().Err(); err != nil {
			return err
		}
		return clientFailure(resp.StatusCode, kind)
	}
	delete(resp.Header, wire.HeaderError)
	x.srv.isolation.apply(resp.Header, x.route)
	if len(resp.Trailer) > 0 && x.http1 {
		// HTTP/1.1 has trailers only after a body in the chunked coding.
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
	}
	if !x.fitsViewer(resp.Header) {
		return failAnswerHeader
	}
	x.final = resp
	return nil
}

// fail answers a viewer whose request could not be carried.
func (x *exchange) fail(err error) {
	if x.w.upgraded.Load() != nil {
		x.w.lost() // before it had the 101
		return
	}
	f := errFor(err)
	if x.in.Context().Err() != nil && !f.byClient {
		// The viewer has gone. There is nobody to answer, and nothing to log. A
		// failure that the tunnel client has reported came before that: what
		// follows from it ends the request.
		panic(http.ErrAbortHandler)
	}
	x.final = nil
	clear(x.w.Header())
	switch {
	case x.hop != nil:
		x.refuseHop(err, f)
		return
	case errors.Is(err, errBare):
		x.redirectBare()
		return
	}
	if f == failNoTunnel {
		f = x.srv.miss(x.in, f)
		x.out.failure = f
		f.write(x.w, x.in, x.id)
		return
	}
	x.out.failure = f
	log := x.srv.lines.of(x.tunnel).limited(x.srv.log, linesPerSecond-1)
	log.Debug().Str(logevent.Field, logevent.RequestFailed).Str("id", x.route.name()).Str("request_id", x.id).Str("error_code", string(f.code)).Int("status", f.status).Str("error", redact.Error(err)).Msg("request failed")
	x.waits()
	defer x.moves()
	f.write(x.w, x.in, x.id)
}

// miss returns the answer to a viewer whose request leads nowhere: f or, after
// too many of those, 429.
func (s *Server) miss(r *http.Request, f *failure) *failure {
	if wait, ok := s.misses.allow(s.live.Load().forwarding.clientAddr(r)); !ok {
		if c := requestConn(r); c != nil {
			c.turn.slowDown()
		}
		return tooManyMisses(wait)
	}
	return f
}

// errFor translates the error of a round trip into what the viewer gets.
func errFor(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errNodeAway):
		return failNodeAway
	case errors.Is(err, cluster.ErrUnknown):
		return failDirectory
	case errors.Is(err, errDraining): // before what it wraps
		return failLeft
	case errors.Is(err, errNotReplaced):
		return failNotReplaced
	case errors.Is(err, ErrNoTunnel):
		return failNoTunnel
	case errors.Is(err, errBusy):
		return failBusy
	case errors.Is(err, budget.ErrPeer), errors.Is(err, budget.ErrFull):
		return failMemory
	}
	// x/net has no types for requests that it refuses to encode.
	switch text := err.Error(); {
	case strings.Contains(text, "request header list larger than"):
		return failHeaderTooLarge
	case strings.HasPrefix(text, "http2: invalid "), strings.Contains(text, "invalid Host header"), strings.Contains(text, "invalid request :path"):
		return failUnencodable
	}
	return failBroken
}

// last reports whether to send "Connection: close", over HTTP/2 GOAWAY, with the
// answer: because the service leaves, or because the viewer is still sending a
// request that nobody will read.
func (x *exchange) last() bool {
	return x.srv.isDraining() || x.http1 && x.body.src != nil && !x.body.whole()
}

var _ http.RoundTripper = (*exchange)(nil)

// cause returns why ctx was cancelled by this package, or nil.
func cause(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}
