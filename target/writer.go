package target

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
)

// unaltered keeps the server under a proxy from adding to the target's answer.
type unaltered struct {
	http.ResponseWriter

	// length is how many body bytes the answer has, or -1 if that is not known
	// in advance. Set between the target's answer and WriteHeader.
	length   int64
	written  int64
	noLength bool // the answer has no body, and does not say so
	wrote    bool // the final header

	// targetConn is the network connection to the target.
	targetConn atomic.Pointer[net.Conn]

	// upgraded is the connection to a target that has switched protocols.
	upgraded *targetEnd

	// expected, if not nil, is the request's body, which may wait for the final
	// header.
	expected *expectedBody
}

func newUnaltered(w http.ResponseWriter) *unaltered {
	return &unaltered{ResponseWriter: w, length: -1}
}

// closeUpgraded closes the connection to a target that has switched protocols.
// A ReverseProxy leaves it open where it cannot use it.
func (w *unaltered) closeUpgraded() {
	if w.upgraded != nil {
		_ = w.upgraded.Close()
	}
}

// Hijack is for upgrades, whose broken ends it passes on.
func (w *unaltered) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, brw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil && w.upgraded != nil {
		c = &tunnelEnd{c, w.upgraded.u}
	}
	return c, brw, err
}

// WriteHeader sends the header without a Content-Type and a Date that the
// target did not send: for net/http a nil entry means just that.
func (w *unaltered) WriteHeader(status int) {
	switch {
	case status == http.StatusSwitchingProtocols:
		return // an HTTP/2 target's nonsense: real upgrades are hijacked
	case status < 200 && headerSize(w.Header()) > maxHeader:
		return // informational, so nobody depends on it
	case status >= 200 && !w.wrote:
		w.wrote = true
		h := w.Header()
		if w.noLength {
			h["Content-Length"] = nil
		}
		for _, k := range [...]string{"Content-Type", "Date"} {
			if _, ok := h[k]; !ok {
				h[k] = nil
			}
		}
	}
	w.ResponseWriter.WriteHeader(status)
	if status >= 200 && w.length < 0 {
		// Before the end is known, or an empty body would get a length.
		_ = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if status >= 200 && w.expected != nil {
		if w.length >= 0 && !w.expected.begun.Load() {
			_ = http.NewResponseController(w.ResponseWriter).Flush()
		}
		w.expected.headerSent()
	}
}

func (w *unaltered) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// FlushError does nothing once the whole answer is written: the return of the
// handler sends it, together with its end. An answer without a body would
// otherwise race with its own flush, which gRPC clients take amiss.
func (w *unaltered) FlushError() error {
	if w.wrote && w.length >= 0 && w.written >= w.length {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is FlushError for those that know no better.
func (w *unaltered) Flush() { _ = w.FlushError() }

// Unwrap lets [http.ResponseController] find the Hijacker.
func (w *unaltered) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var (
	_ http.Flusher  = (*unaltered)(nil)
	_ http.Hijacker = (*unaltered)(nil)
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
