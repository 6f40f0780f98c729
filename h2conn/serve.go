package h2conn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Defaults of the answering end.
const (
	answeringMaxStreams     = 250
	answeringStreamWindow   = 8 << 20
	answeringConnWindow     = 32 << 20
	answeringMaxHeaderBytes = 192 << 10
	answeringMaxFrameSize   = bulkBody

	// ownHeaderBytes is what x/net's server adds to MaxHeaderBytes in its settings.
	ownHeaderBytes = 320

	// lastAnswerTime is how long the last answer of a drain has to go out.
	lastAnswerTime = time.Second

	defaultPingInterval = 15 * time.Second
	defaultPingTimeout  = 10 * time.Second
)

// Serve takes over c and answers the peer's requests with h until the
// connection ends; then it returns why, see [Conn.Err].
//
// ctx is the lifetime. When it ends, the peer is told to send no more (GOAWAY),
// requests in flight may go on for cfg.DrainTimeout, c is closed with the code
// set by [Conn.SetCloseReason], and Serve returns nil. The contexts of requests
// end with the connection, not with ctx, and hold ctx's values. Like net/http,
// Serve does not wait for handlers that go on after that. A handler that goes on
// after the peer has aborted its request does not hold up others.
//
// h sees upgrades as HTTP/1.1 requests and can hijack them. A handler that
// panics fails its own request only.
func Serve(ctx context.Context, c *Conn, h http.Handler, cfg ServeConfig) error {
	hs := &http.Server{
		ErrorLog:       cfg.ErrorLog,
		MaxHeaderBytes: int(defaultInt(cfg.MaxHeaderBytes, answeringMaxHeaderBytes)),
	}
	s2 := &http2.Server{
		MaxConcurrentStreams:         defaultInt(cfg.MaxConcurrentStreams, answeringMaxStreams),
		MaxReadFrameSize:             defaultInt(cfg.MaxFrameSize, answeringMaxFrameSize),
		MaxUploadBufferPerStream:     defaultInt(cfg.StreamWindow, answeringStreamWindow),
		MaxUploadBufferPerConnection: defaultInt(cfg.ConnWindow, answeringConnWindow),
		ReadIdleTimeout:              defaultDuration(cfg.PingInterval, defaultPingInterval),
		PingTimeout:                  cmp.Or(defaultDuration(cfg.PingTimeout, defaultPingTimeout), math.MaxInt64), // with 0, x/net has a limit of its own
	}
	if hs.ErrorLog == nil {
		hs.ErrorLog = log.Default()
	}
	if err := http2.ConfigureServer(hs, s2); err != nil {
		c.Close()
		return fmt.Errorf("h2conn: configuring HTTP/2: %w", err)
	}

	peer := newPeerSettings(len(http2.ClientPreface))
	a := &answerer{handler: h, conn: c, peer: peer, log: hs.ErrorLog, window: int(s2.MaxUploadBufferPerConnection), budget: cfg.Budget, work: make(chan job), gone: make(chan struct{})}
	if a.budget == nil {
		a.budget = new(Budget)
	}
	served := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-served:
		case <-ctx.Done():
			a.drain(ctx, hs, served, cfg.DrainTimeout)
			c.Close()
		}
	}()

	c.carrier.makesLarge()
	m := newMeter(len(http2.ClientPreface), int(s2.MaxReadFrameSize), false)
	m.grows(newStreamWindows(int64(s2.MaxUploadBufferPerStream), int64(s2.MaxUploadBufferPerConnection)))
	guard := newHeaderGuard(uint32(hs.MaxHeaderBytes) + ownHeaderBytes)
	s2.ServeConn(&guardedConn{newHTTP2Conn(c, peer, m, cfg.Config, cfg.Memory), guard}, &http2.ServeConnOpts{
		Context:    context.WithoutCancel(ctx),
		BaseConfig: hs,
		Handler:    a,
	})
	close(served)
	close(a.gone)
	<-stopped
	c.Close()
	if err := c.Err(); ctx.Err() == nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// answerer is the handler of the answering end: it hands upgrades to
// serveUpgrade and keeps connection headers out of all other answers.
type answerer struct {
	handler http.Handler
	conn    *Conn
	peer    *peerSettings
	log     *log.Logger
	window  int // this end's receive window
	budget  *Budget

	work chan job      // to goroutines that have run a handler and wait for the next
	gone chan struct{} // closed when the connection has ended

	running atomic.Int32 // handlers, those of requests that are over included

	mu     sync.Mutex
	active int
	idle   chan struct{} // non-nil while somebody waits for active to be 0
}

// drain tells the peer to send no more and waits until the requests in flight
// have finished, but no longer than timeout. served is closed when the
// connection has ended; ctx is over already.
func (a *answerer) drain(ctx context.Context, hs *http.Server, served <-chan struct{}, timeout time.Duration) {
	if timeout <= 0 {
		return
	}
	_ = hs.Shutdown(ctx) // starts GOAWAY; ctx is over, so it does not wait
	late := time.After(timeout)
	var idle <-chan struct{}
	if !sendsGoaway { // nothing would end an idle connection
		idle = a.whenIdle()
	}
	select {
	case <-served:
		return
	case <-late:
		return
	case <-idle:
	}
	// x/net writes the end of an answer after its handler has returned. A peer
	// that knows of the drain closes as soon as it has that.
	select {
	case <-served:
	case <-late:
	case <-time.After(lastAnswerTime):
	}
}

// whenIdle returns a channel that is closed when no request is in flight.
func (a *answerer) whenIdle() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := make(chan struct{})
	if a.active == 0 {
		close(c)
	} else {
		a.idle = c
	}
	return c
}

func (a *answerer) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.active++
}

func (a *answerer) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.active--; a.active == 0 && a.idle != nil {
		close(a.idle)
		a.idle = nil
	}
}

// answer runs the handler.
func (a *answerer) answer(w http.ResponseWriter, r *http.Request) {
	if _, named := r.Header["Content-Length"]; r.ContentLength == 0 && !named {
		r.Body = http.NoBody // which is what handlers look for
	} else {
		r.Body = widen(r, a.window)
	}
	if protocol, ok := isExtendedConnect(r); ok {
		serveUpgrade(w, r, a.handler, &extendedUpgrade{protocol: protocol}, a.conn)
		return
	}
	if protocol := r.Header.Get(HeaderUpgrade); protocol != "" {
		serveUpgrade(w, r, a.handler, &fallbackUpgrade{protocol: protocol}, a.conn)
		return
	}
	aw := &answerWriter{ResponseWriter: w, answerer: a}
	if r.Header.Get(HeaderExpect) != "" {
		r.Header.Set("Expect", "100-continue")
		aw.continues = true
	}
	clean(r.Header)
	if body := r.Body; len(r.Trailer) > 0 {
		defer awaitTrailers(w, body)
	}
	a.handler.ServeHTTP(aw, r)
	if !aw.wroteHeader {
		aw.WriteHeader(http.StatusOK) // as net/http does, but with a clean header
	}
	cleanTrailers(w.Header())
	if !a.admits(trailers(w.Header())) {
		a.log.Printf("h2conn: the answer to %s has trailers over the peer's limit", r.Method)
		panic(http.ErrAbortHandler)
	}
}

// trailersWait is how long the end of an answer waits for the trailers of its request.
const trailersWait = 250 * time.Millisecond

// awaitTrailers is called after a handler that may have answered before its request was
// whole. x/net's Server then closes the stream, and takes trailers that are on their way
// for a breach of HTTP/2, which ends the connection with all other requests on it.
func awaitTrailers(w http.ResponseWriter, body io.Reader) {
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(trailersWait)) == nil {
		_, _ = io.Copy(io.Discard, body)
	}
}

// trailers returns what of a handler's header map goes into the trailers.
func trailers(h http.Header) http.Header {
	var t http.Header
	add := func(k string, vv []string) {
		if t == nil {
			t = make(http.Header)
		}
		t[k] = vv
	}
	for k, vv := range h {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			add(k, vv)
		}
	}
	for _, v := range h["Trailer"] {
		for k := range strings.SplitSeq(v, ",") {
			if k = http.CanonicalHeaderKey(strings.TrimSpace(k)); len(h[k]) > 0 {
				add(k, h[k])
			}
		}
	}
	return t
}

// admits reports whether the peer takes header lists of h's size (RFC 9113,
// section 6.5.2). x/net sends what it is given, and one header over the limit
// ends the connection with all that is in flight.
func (a *answerer) admits(h http.Header) bool {
	limit := uint64(a.peer.headerListLimit())
	if limit == 0 {
		return true
	}
	const own = 256 // status, date and length
	size := uint64(own)
	for k, vv := range h {
		for _, v := range vv {
			size += uint64(len(k) + len(v) + 32)
		}
	}
	return size <= limit
}

// TranslatedConnect reports whether w answers what looks like an HTTP/1.1 upgrade
// and was an extended CONNECT request over HTTP/2 before [UpgradeHandler].
func TranslatedConnect(w http.ResponseWriter) bool {
	_, ok := w.(*upgradeWriter)
	return ok
}

// UpgradeHandler returns a handler for an x/net/http2 server that faces
// viewers: it lets h see their extended CONNECT requests as the HTTP/1.1
// upgrades that [Transport.RoundTrip] and [net/http/httputil.ReverseProxy]
// understand. All other requests pass untouched.
func UpgradeHandler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if protocol, ok := isExtendedConnect(r); ok && r.ProtoMajor == 2 {
			serveUpgrade(w, r, h, &extendedUpgrade{protocol: protocol, viewer: true}, nil)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// answerWriter removes from an answer what HTTP/2 does not have. A handler's
// "Connection: close" would make x/net end the tunnel. An answer whose header is
// larger than the peer admits becomes a 502.
type answerWriter struct {
	http.ResponseWriter
	answerer    *answerer
	wroteHeader bool
	discard     bool // the body belongs to an answer that was not sent

	// continues says that x/net sends 100 when the request body is first read,
	// so that one from the handler would be the second.
	continues bool
}

func (w *answerWriter) WriteHeader(status int) {
	if status == http.StatusContinue && w.continues {
		return
	}
	if !w.wroteHeader {
		clean(w.Header())
		w.wroteHeader = status >= 200
		if !w.answerer.admits(w.Header()) {
			if status < 200 {
				return // informational: nobody depends on it
			}
			w.answerer.log.Printf("h2conn: an answer with status %d has a header over the peer's limit", status)
			clear(w.Header())
			w.discard = true
			http.Error(w.ResponseWriter, "the answer's header is too large", http.StatusBadGateway)
			return
		}
	}
	WriteHeader(w.ResponseWriter, status)
}

func (w *answerWriter) Write(p []byte) (int, error) {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	if w.discard {
		return len(p), nil
	}
	return writePieces(w.ResponseWriter, p, w.answerer.conn)
}

// writePieces writes p to w so that x/net makes frames of at most c's quantum:
// a frame goes out before everything behind it, pings included.
func writePieces(w io.Writer, p []byte, c *Conn) (n int, err error) {
	for {
		k, err := w.Write(p[n:min(len(p), n+c.quantum())])
		if n += k; err != nil || n == len(p) {
			return n, err
		}
	}
}

func (w *answerWriter) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] looks for.
func (w *answerWriter) FlushError() error {
	if !w.wroteHeader {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap gives [http.ResponseController] the HTTP/2 ResponseWriter.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
