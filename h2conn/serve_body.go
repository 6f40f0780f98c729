package h2conn

import (
	"io"
	"net/http"
	"sync/atomic"
)

const (
	// firstRead is how much of a body is asked for at first: many are small.
	firstRead = 4 << 10

	// minWideRead is how much is asked for afterwards, at least.
	minWideRead = 32 << 10

	// maxUpdates is how many WINDOW_UPDATEs the receive window of a whole
	// connection may become. x/net's server gives up a connection on which
	// 10,000 frames wait to be written.
	maxUpdates = 8192
)

// wideBody is a request's body that is read in large pieces, although its reader may
// ask for small ones: x/net's server writes a WINDOW_UPDATE after each read, of
// 4 KiB or more, and some hundred handlers that come to read full windows in
// small pieces at the same time would cost the tunnel. Its states:
//
//	unread   buf is nil: the next Read asks for firstRead
//	reading  rest may hold what callers have not taken yet; buf has firstRead
//	         or, once that was filled, wide
//	ended    err is not nil: Read returns rest, then err
//	closed   by Close, at any time: Read returns the error of the stream's body
//
// The handler may close it; x/net closes the stream's body in any case.
type wideBody struct {
	io.ReadCloser
	wide   int    // size of the pieces
	buf    []byte // nil before the first one
	full   bool   // the last piece filled buf, and more may be asked for
	rest   []byte // of the last piece
	err    error  // that came with it
	closed atomic.Bool
}

// widen returns r's body such that a connection with this receive window stays
// below maxUpdates.
func widen(r *http.Request, window int) io.ReadCloser {
	if r.ContentLength >= 0 && r.ContentLength <= minWideRead {
		return r.Body // few updates, if any
	}
	return &wideBody{ReadCloser: r.Body, wide: max(minWideRead, window/maxUpdates)}
}

func (b *wideBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return b.ReadCloser.Read(p) // for its error
	}
	if len(b.rest) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		if len(p) == 0 || len(p) >= b.wide {
			return b.ReadCloser.Read(p)
		}
		switch {
		case b.buf == nil:
			b.buf = make([]byte, firstRead)
		case b.full:
			b.buf = make([]byte, b.wide)
		}
		var n int
		n, b.err = b.ReadCloser.Read(b.buf)
		b.rest, b.full = b.buf[:n], n == len(b.buf) && n < b.wide
	}
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) > 0 {
		return n, nil
	}
	return n, b.err
}

func (b *wideBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}
