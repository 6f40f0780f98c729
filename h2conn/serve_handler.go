package h2conn

import (
	"net/http"
	"runtime/debug"
)

// maxRunning is how many handlers of one connection run at the same time before
// those whose requests are over count as streams again. It limits the memory that
// viewers who come and leave can cost.
const maxRunning = 10_000

// ServeHTTP runs the handler in a goroutine of its own and returns when it has
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
	over := make(chan bool, 1)
	a.running.Add(1)
	// A copy, since x/net looks at the form in its own.
	go func() {
		defer a.budget.give(cost)
		a.run(w, r.WithContext(r.Context()), over)
	}()
	returned := false
	select {
	case returned = <-over:
	case <-r.Context().Done():
		if a.running.Load() > maxRunning {
			returned = <-over
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

// run runs the handler and says on over whether it has returned, rather than
// panicked.
func (a *answerer) run(w http.ResponseWriter, r *http.Request, over chan<- bool) {
	returned := false
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
			a.log.Printf("http2: panic serving %v: %v\n%s", a.conn.RemoteAddr(), e, debug.Stack())
		}
		if r.MultipartForm != nil {
			_ = r.MultipartForm.RemoveAll()
		}
		a.running.Add(-1)
		over <- returned
	}()
	a.answer(w, r)
	returned = true
}
