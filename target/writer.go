package target

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/lateheader"
)

// headerPatience is how long the header of an answer whose length is known waits for the
// first bytes of its body. A target mostly sends both together.
const headerPatience = time.Millisecond

// writer sends the answer to the viewer. It adds nothing to what the target sent.
//
//	                  begins as  set by
//	length, silent    unknown    expect, between the target's answer and WriteHeader
//	status            0          WriteHeader of the final header, or Hijack
type writer struct {
	http.ResponseWriter
	ex *exchange

	late lateheader.Timer // sends the final header if the body keeps it waiting

	length  int64 // body bytes of the answer; -1 if that is not known in advance
	silent  bool  // the answer has no body, and does not say so
	status  int   // of the final header, 0 before it
	written int64 // body bytes so far
}

// expect says how long the answer's body will be; silent, that there is none and
// that the header names no length.
func (w *writer) expect(length int64, silent bool) { w.length, w.silent = length, silent }

// Hijack is for upgrades. It makes the viewer's end of one.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.late.Stop()
	c, brw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
		if u := w.ex.upgrade; u != nil {
			c = newTunnelEnd(c, u)
		}
	}
	return c, brw, err
}

func (w *writer) WriteHeader(status int) {
	switch {
	case status == http.StatusSwitchingProtocols:
		return // from an HTTP/2 target, where it means nothing: real upgrades are hijacked
	case status < 200:
		if ok := w.ex.admitInterim(status, w.Header()); !ok {
			return
		}
		w.ex.redirects.apply(w.Header())
		w.ex.p.response.remove(w.Header())
		if headerSize(w.Header()) <= maxHeader { // informational, so nobody depends on it
			w.ResponseWriter.WriteHeader(status)
		}
		return
	case w.status == 0:
		w.status = status
		addNothing(w.Header(), w.silent)
	}
	w.ResponseWriter.WriteHeader(status)
	switch {
	case w.length < 0 || w.ex.body.expect.unread():
		// An unknown length: before the end is known, or an empty body would get a length.
		w.flush()
	case w.length > 0:
		w.late.Start(headerPatience, func() { _ = w.flush() })
	}
	w.ex.body.expect.sent()
}

func (w *writer) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.late.Stop()
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	if err == nil && w.written < w.length { // where the length is not known ReverseProxy flushes
		err = w.flush()
	}
	if err != nil {
		w.ex.viewerFailed(err)
	}
	return n, err
}

func (w *writer) flush() error { return http.NewResponseController(w.ResponseWriter).Flush() }

// FlushError does nothing once the whole answer is written: the return of the
// handler sends it, together with its end. An answer without a body would
// otherwise race with its own flush, which gRPC clients do not accept.
func (w *writer) FlushError() error {
	if w.status != 0 && w.length >= 0 && w.written >= w.length {
		return nil
	}
	w.late.Stop()
	return w.flush()
}

// Flush is FlushError for callers that do not know it.
func (w *writer) Flush() { _ = w.FlushError() }

// Unwrap lets [http.ResponseController] find the other methods.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var (
	_ http.Flusher  = (*writer)(nil)
	_ http.Hijacker = (*writer)(nil)
)

// headerSize returns the size of h as HTTP/2 counts it (RFC 9113, section
// 6.5.2).
func headerSize(h http.Header) int {
	n := 0
	for k, vv := range h {
		for _, v := range vv {
			n += len(k) + len(v) + 32
		}
	}
	return n
}
