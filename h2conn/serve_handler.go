package h2conn

import (
	"net/http"
	"runtime/debug"
	"time"
)

// maxRunning is how many handlers of one connection run at the same time before
// those whose requests are over count as streams again. It limits the memory that
// viewers who come and leave can cost.
const maxRunning = 10_000

// workerIdle is how long a goroutine that has run a handler waits for the next: its
// stack has grown by then, which costs a new one as much as the rest of a small
// request.
const workerIdle = time.Second

// job is one run of the handler.
type job struct {
	w    http.ResponseWriter
	r    *http.Request
	over chan bool // capacity 1: receives whether the handler has returned
	cost int64     // taken from the budget
}

// ServeHTTP runs the handler in another goroutine and returns when it has
// returned, or when the stream is over: then nobody waits for the answer. A
// handler that ignores its context would otherwise keep its stream, and x/net
// ends the connection when many such streams have been aborted: viewers who
// leave would cost the tunnel.
//
// What such a handler does with its ResponseWriter after that fails. To x/net it
// has panicked, so x/net does not use the ResponseWriter any more.
//
// A request that breaks a bound, or for which there is no memory, has its answer
// here, and its header is given up before: the peer may not take that answer.
func (a *answerer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.begin()
	defer a.end()
	cost := costOf(r)
	if status := a.refuse(r, cost); status != 0 {
		r.Header, r.Trailer = nil, nil
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
		return
	}
	// A copy of the request, since x/net looks at the form in its own.
	j := job{w: w, r: a.conn.meter.arrivals.serveStream(r.WithContext(r.Context())), over: make(chan bool, 1), cost: cost}
	a.running.Add(1)
	select {
	case a.work <- j: // to one that waits
	default:
		go a.runAll(j)
	}
	returned := false
	select {
	case returned = <-j.over:
	case <-r.Context().Done():
		if a.running.Load() > maxRunning {
			returned = <-j.over
		}
	}
	if !returned {
		panic(http.ErrAbortHandler)
	}
}

// refuse returns the status with which a request is refused, or 0 if it is not. Then
// its cost has been taken from the budget.
func (a *answerer) refuse(r *http.Request, cost int64) int {
	switch {
	case !fieldsWithin(r.Header):
		return http.StatusRequestHeaderFieldsTooLarge
	case !a.budget.take(cost):
		return http.StatusServiceUnavailable
	default:
		return 0
	}
}

// runAll runs j and what comes then, until nothing has come for workerIdle or the
// connection is gone.
func (a *answerer) runAll(j job) {
	var idle *time.Timer
	for {
		a.run(j)
		j = job{} // nothing of it is held meanwhile
		if idle == nil {
			idle = time.NewTimer(workerIdle)
			defer idle.Stop()
		} else {
			idle.Reset(workerIdle)
		}
		select {
		case j = <-a.work:
		case <-idle.C:
			return
		case <-a.gone:
			return
		}
	}
}

// run runs the handler and says on over whether it has returned, rather than
// panicked.
func (a *answerer) run(j job) {
	w, r, over := j.w, j.r, j.over
	returned := false
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
			a.log.Printf("http2: panic serving %v: %v\n%s", a.conn.RemoteAddr(), e, debug.Stack())
		}
		if r.MultipartForm != nil {
			_ = r.MultipartForm.RemoveAll()
		}
		a.running.Add(-1)
		a.budget.give(j.cost)
		over <- returned
	}()
	a.answer(w, r)
	returned = true
}
