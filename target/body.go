package target

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"

	"github.com/websocktunnel/websocktunnel/internal/replay"
)

// requestBody is the body of the request, as net/http's Transport reads it. The
// Transport's Close is meant, since nothing is tried again by the exchange: package
// server's ignores it.
//
//	state   entered when                              Read returns
//	open    the exchange begins                       what the viewer sends
//	done    the viewer's upload is complete           io.EOF
//	broken  the viewer's upload broke off             the viewer's error, once
//	closed  net/http or the exchange is done with it  http.ErrBodyReadAfterClose
//	ended   the connection to the target has gone     io.EOF
//
// The first Read of one that is open may wait: see expectation. The last two end
// a Read in progress if the viewer's body can do that. What was broken stays so,
// since it says whose fault the end is.
//
// On the way to a target that may speak HTTP/2, what has been read is kept for
// another try. As long as there can be one, net/http's Close ends the try only.
type requestBody struct {
	io.ReadCloser // the viewer's; only close calls its Close

	// closable is true behind an HTTP/2 server, such as the tunnel's, where
	// Close ends a Read in progress. In HTTP/1.1, Close waits for the viewer.
	closable bool

	expect *expectation // nil if the request expects nothing
	kept   *replay.Body // nil if there is one try only

	// The viewer's trailers, whose values come with the end of the upload; the names that
	// the target gets; and those of the try, which get the values.
	trailer, announced, out http.Header

	state  atomic.Int32
	closed atomic.Bool
	read   atomic.Int64 // bytes so far
}

const (
	bodyOpen int32 = iota
	bodyDone
	bodyBroken
	bodyClosed
	bodyEnded
)

func (b *requestBody) Read(p []byte) (n int, err error) {
	if b.kept != nil {
		n, err = b.kept.Read(p)
	} else {
		n, err = b.readViewer(p)
	}
	if errors.Is(err, io.EOF) && b.state.Load() == bodyDone {
		for name := range b.out {
			b.out[name] = b.trailer[name]
		}
	}
	return n, err
}

// announce says which trailers of the viewer the target gets: all of in that removed does
// not name. Nothing of the body has been read: afterwards its end may add to in while
// another try begins.
func (b *requestBody) announce(in http.Header, removed headerChanges) {
	b.trailer = in
	for name := range in {
		if slices.Contains(removed.names, name) {
			continue
		}
		if b.announced == nil {
			b.announced = make(http.Header, len(in))
		}
		b.announced[name] = nil
	}
}

// attach gives out, the request of the next try, trailers of its own.
func (b *requestBody) attach(out *http.Request) {
	b.out = maps.Clone(b.announced)
	out.Trailer = b.out
}

// viewerReader reads what the viewer sends, once.
type viewerReader struct{ b *requestBody }

func (r viewerReader) Read(p []byte) (int, error) { return r.b.readViewer(p) }

// keep makes the body one that can be sent again; settle says that it will not be.
func (b *requestBody) keep() { b.kept = replay.New(viewerReader{b}) }

func (b *requestBody) settle() {
	if b.kept != nil {
		b.kept.Settle()
	}
}

// rewind begins another try, and reports false if a part of the body is gone.
func (b *requestBody) rewind() bool { return b.kept == nil || b.kept.Rewind() }

func (b *requestBody) readViewer(p []byte) (int, error) {
	b.expect.wait()
	if s := b.state.Load(); s == bodyClosed || s == bodyBroken {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.ReadCloser.Read(p)
	b.read.Add(int64(n))
	switch err {
	case nil:
	case io.EOF:
		b.state.CompareAndSwap(bodyOpen, bodyDone)
	default:
		b.state.CompareAndSwap(bodyOpen, bodyBroken)
		if b.state.Load() == bodyEnded {
			err = io.EOF
		}
	}
	return n, err
}

// Close is for net/http, which calls it when a stream to an HTTP/2 target fails
// or the body is no longer wanted, and for the end of the exchange.
func (b *requestBody) Close() error {
	if b.kept != nil && b.kept.Interrupt() {
		return nil
	}
	return b.close(bodyClosed)
}

// end is for the end of the connection to the target. From then on Read returns
// io.EOF: net/http would prefer any other error to what went wrong with the
// connection. Nobody takes it for the end of the upload, since the connection is
// closed by then.
func (b *requestBody) end() {
	_ = b.close(bodyEnded)
}

// close is the one place that closes the viewer's body.
func (b *requestBody) close(next int32) error {
	for {
		s := b.state.Load()
		if s == bodyBroken || s == bodyEnded || b.state.CompareAndSwap(s, next) {
			break
		}
	}
	if !b.closable || !b.closed.CompareAndSwap(false, true) {
		return nil
	}
	return b.ReadCloser.Close()
}

// answerBody is the body of an answer, except of a 101, whose body is a targetEnd.
//
//	state    Read returns                             entered when
//	open     what the target sends                    the answer's header is here
//	failed   the error that ends it, other than EOF   the target breaks off
//	dropped  io.EOF                                   a 304 named a length (dropBody)
//	closed   net/http's error                         ReverseProxy has copied it, or gives up
type answerBody struct {
	io.Reader
	closer io.Closer
	ex     *exchange
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		b.ex.failed(err)
	}
	return n, err
}

// Close ends the request as well: an answer may end while its request goes on,
// and the HTTP/2 transport would otherwise wait for that.
func (b *answerBody) Close() error {
	b.ex.cancel()
	return b.closer.Close()
}
