package server

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// viewerWriter is the ResponseWriter that ReverseProxy writes a viewer's
// answer to. It keeps net/http from adding to the answer what the target did
// not send, and lets an answer that breaks off look broken.
type viewerWriter struct {
	http.ResponseWriter
	rc *http.ResponseController

	// dog ends an answer of which an HTTP/2 viewer takes nothing although the
	// connection is alive: its stream's window is closed. It has no timeout
	// for other viewers, whom stallConn watches.
	dog watchdog

	// noInterim says that the viewer does not know 1xx (RFC 9110, section 15.2).
	noInterim bool

	// broken is set before an upgrade; it reports whether the tunnel's side of
	// it has broken.
	broken func() bool

	// hijackStall, if not zero, limits how long a write to the hijacked
	// connection may be stuck, where no stallConn is below.
	hijackStall time.Duration

	// interim rewrites the header of a 1xx answer.
	interim func(http.Header)

	// continued is set when the viewer has got a 100, from the target or, when
	// the request's body is first read, from net/http.
	continued atomic.Bool

	// emptyBody is set before the final WriteHeader if the answer is known to
	// have no body.
	emptyBody bool

	// noLength is set likewise if such an answer does not say so: gRPC's
	// answers of trailers only do not.
	noLength bool

	// last, if not nil, reports whether the viewer had better use another
	// connection for its next request.
	last func() bool

	// wrote says that the final header has been written. Before that a flush
	// would make net/http send one of its own.
	wrote bool

	// unknownLength is set likewise if the answer does not tell its length.
	unknownLength bool
}

// madeUp are the headers that net/http makes up when they are absent. A nil
// value keeps it from that.
var madeUp = [...]string{"Content-Type", "Date"}

func (w *viewerWriter) WriteHeader(status int) {
	if status < 200 && w.noInterim || status == http.StatusContinue && w.continued.Swap(true) {
		return
	}
	w.wrote = w.wrote || status >= 200
	h := w.Header()
	if status < 200 && status != http.StatusSwitchingProtocols {
		if w.interim != nil {
			w.interim(h)
		}
		h2conn.WriteHeader(w.ResponseWriter, status)
		return
	}
	for _, k := range madeUp {
		if _, ok := h[k]; !ok {
			h[k] = nil
		}
	}
	if w.noLength {
		h["Content-Length"] = nil
	}
	if status >= 200 && w.last != nil && w.last() {
		h.Set("Connection", "close") // over HTTP/2, x/net makes a GOAWAY of it
	}
	w.ResponseWriter.WriteHeader(status)
	if status >= 200 && w.unknownLength {
		// Before the end is known, or an empty body would get a length.
		_ = w.FlushError()
	}
}

// Flush sends what has been written, except where that is nothing: ReverseProxy
// flushes the header of every answer at once, and for an answer without a body
// this would race with its trailers, which gRPC's errors consist of.
func (w *viewerWriter) Flush() { _ = w.FlushError() }

// FlushError is what [http.ResponseController] looks for.
func (w *viewerWriter) FlushError() error {
	if w.emptyBody {
		return nil
	}
	w.dog.watch()
	defer w.dog.done()
	return w.rc.Flush()
}

func (w *viewerWriter) Write(p []byte) (n int, err error) {
	if w.dog.timeout <= 0 {
		return w.ResponseWriter.Write(p)
	}
	for len(p) > 0 && err == nil { // in pieces, to see progress
		var k int
		w.dog.watch()
		k, err = w.ResponseWriter.Write(p[:min(len(p), maxBodyRead)])
		w.dog.done()
		p, n = p[k:], n+k
	}
	return n, err
}

func (w *viewerWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h := w.Header()
	for _, k := range madeUp {
		if len(h[k]) == 0 {
			delete(h, k)
		}
	}
	c, brw, err := w.rc.Hijack()
	if err == nil && w.hijackStall > 0 {
		c = &stallConn{Layer: netconn.Layer{Conn: c}, timeout: w.hijackStall}
		brw.Writer.Reset(c)
	}
	if err == nil && brw.Reader.Buffered() > 0 {
		c = &earlyConn{Layer: netconn.Layer{Conn: c}, br: brw.Reader}
	}
	if err == nil && w.broken != nil {
		netconn.SetLinger(c, 0)
		c = &upgradedViewer{netconn.Layer{Conn: c}, w.broken}
	}
	return c, brw, err
}

// upgradedViewer is a viewer's connection after the 101. Its Close is no clean
// end if the tunnel's side has broken, nor is the end of the process.
type upgradedViewer struct {
	netconn.Layer
	broken func() bool
}

func (c *upgradedViewer) Close() error {
	if c.broken() {
		reset(c.Conn)
		return nil
	}
	netconn.SetLinger(c.Conn, -1)
	return c.Conn.Close()
}

// earlyConn is a hijacked connection of whose bytes net/http has read some:
// the viewer did not wait for the 101. ReverseProxy reads from the connection
// only, and would lose them.
type earlyConn struct {
	netconn.Layer
	br *bufio.Reader
}

func (c *earlyConn) Read(p []byte) (int, error) {
	if c.br.Buffered() > 0 {
		return c.br.Read(p)
	}
	return c.Conn.Read(p)
}

// Unwrap gives [http.ResponseController] the server's ResponseWriter.
func (w *viewerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// continuingBody is the body of a viewer's request.
type continuingBody struct {
	io.ReadCloser
	w     *viewerWriter
	http1 bool

	// conn is the connection below, if Serve has accepted it.
	conn net.Conn

	mu      sync.Mutex
	reading bool
	idle    chan struct{} // non-nil while Close waits for a Read; closed when it returns
	ended   bool          // a Read has returned an error, or the body is closed
	whole   bool          // a Read has returned the end
}

// readGrace is how long the end of an answer waits for a Read of the request,
// which may have all it needs. Only then is the Read cut short.
const readGrace = 20 * time.Millisecond

func (b *continuingBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.reading = true
	b.mu.Unlock()
	b.w.continued.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	if b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
	b.ended = b.ended || err != nil
	b.whole = b.whole || errors.Is(err, io.EOF)
	return n, err
}

// isWhole reports whether all of the body has been read.
func (b *continuingBody) isWhole() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole
}

// over reports whether there is nothing more to read.
func (b *continuingBody) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended
}

// Close ends the request although more of it may be to come: the answer is
// over. For an HTTP/1.1 viewer net/http would wait for the rest, and hold back
// the end of the answer. What it does with a rest that was cut short is to take
// it for the next request, so that an answer which begins before the body is
// whole says that the connection ends with it: see viewerWriter.last.
func (b *continuingBody) Close() error {
	b.mu.Lock()
	if b.reading && b.idle == nil && b.http1 {
		idle := make(chan struct{})
		b.idle = idle
		b.mu.Unlock()
		t := time.NewTimer(readGrace)
		select {
		case <-idle:
		case <-t.C:
		}
		t.Stop()
		b.mu.Lock()
	}
	if !b.ended && b.http1 {
		b.w.rc.SetReadDeadline(time.Unix(1, 0))
		lingerOnClose(b.conn)
	}
	b.ended = true
	b.mu.Unlock()
	return b.ReadCloser.Close()
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
