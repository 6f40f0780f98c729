package target

import (
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

// expectation is all that "Expect: 100-continue" means at this end.
//
// The header goes to the target as it came. net/http's Transport then waits for
// 100, for another answer, or for expectTimeout before it reads the body, and the
// server above sends the viewer its 100 at the first Read. That would be enough,
// were it not that the Transport also reads and sends a body that the target has
// refused, to keep the connection: the viewer would get 100 and then the refusal.
// So a first Read that comes with an answer waits until the final header has left,
// since nothing sends 100 after that.
//
//	the Transport's trace  answered  an answer has begun (again false if it was 100)
//	requestBody.Read       wait      the first Read, which may wait
//	writer.WriteHeader     unread    whether to flush the final header, which would wait for the body otherwise
//	                       sent      the final header has left
//
// A nil expectation is that of a request which expects nothing.
type expectation struct {
	over     <-chan struct{} // closed when the request is
	answered atomic.Bool     // by something, but not by 100
	begun    atomic.Bool     // the first Read is over waiting
	left     chan struct{}   // closed when the final header has left
	leftOnce sync.Once
}

// newExpectation returns nil if r, whose end over tells, expects nothing.
func newExpectation(r *http.Request, over <-chan struct{}) *expectation {
	if !httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
		return nil
	}
	return &expectation{over: over, left: make(chan struct{})}
}

// trace adds to t what an expectation has to know of the answer.
func (e *expectation) trace(t *httptrace.ClientTrace) {
	if e != nil {
		t.GotFirstResponseByte = func() { e.answered.Store(true) }
		t.Got100Continue = func() { e.answered.Store(false) }
	}
}

// wait is called by each Read of the body. Only the first may wait. The answer
// so far may also be an interim one of a target that wants the body, so it does
// not wait for ever.
func (e *expectation) wait() {
	if e == nil || e.begun.Load() {
		return
	}
	defer e.begun.Store(true)
	if !e.answered.Load() {
		return
	}
	select {
	case <-e.left:
	case <-e.over:
	case <-time.After(expectTimeout):
	}
}

// unread reports whether the body of a request that expects 100 has not been
// asked for.
func (e *expectation) unread() bool { return e != nil && !e.begun.Load() }

// sent says that the final header has left.
func (e *expectation) sent() {
	if e != nil {
		e.leftOnce.Do(func() { close(e.left) })
	}
}
