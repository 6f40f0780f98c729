package target

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// expectTimeout is how long the target has to answer "Expect: 100-continue"
// before it is sent the body.
const expectTimeout = time.Second

// expectedBody is the body of a request with "Expect: 100-continue". To keep
// its connection to a target that refuses the body, net/http's Transport reads
// and sends it all the same, and the server above takes the first Read for the
// wish to have the body: it sends 100. So a first Read that comes with an answer
// waits until the final header has left, since nothing sends 100 after that.
type expectedBody struct {
	io.ReadCloser
	ctx context.Context // of the request

	answered atomic.Bool   // by something, but not by 100
	begun    atomic.Bool   // the first Read is over waiting
	sent     chan struct{} // closed when the final header has left
	sentOnce sync.Once
}

// expectBody makes r wait as an expectedBody does. It returns nil if r expects
// nothing.
func expectBody(r *http.Request) (*http.Request, *expectedBody) {
	if r.Body == nil || r.Body == http.NoBody || !httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
		return r, nil
	}
	b := &expectedBody{ReadCloser: r.Body, sent: make(chan struct{})}
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotFirstResponseByte: func() { b.answered.Store(true) },
		Got100Continue:       func() { b.answered.Store(false) },
	}))
	b.ctx = r.Context()
	r.Body = b
	return r, b
}

func (b *expectedBody) Read(p []byte) (int, error) {
	if !b.begun.Load() {
		if b.answered.Load() {
			b.awaitHeader()
		}
		b.begun.Store(true)
	}
	return b.ReadCloser.Read(p)
}

// awaitHeader waits for the final header to leave. The answer so far may also
// be an interim one, though, of a target that wants the body.
func (b *expectedBody) awaitHeader() {
	t := time.NewTimer(expectTimeout)
	defer t.Stop()
	select {
	case <-b.sent:
	case <-b.ctx.Done():
	case <-t.C:
	}
}

// headerSent says that the final header has left.
func (b *expectedBody) headerSent() { b.sentOnce.Do(func() { close(b.sent) }) }
