package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// maxAttempts is how often a request is tried that no tunnel client has seen
// any part of.
const maxAttempts = 3

// RoundTripper returns an [http.RoundTripper] to the tunnel with this id,
// whichever session serves it at the time of each request. The URL's scheme
// and host do not matter, except that the host is the request's Host. Errors
// wrap [ErrNoTunnel] if no client is connected.
func (s *Server) RoundTripper(id string) http.RoundTripper { return &roundTripper{s, id} }

type roundTripper struct {
	srv *Server
	id  string
}

func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.srv.roundTrip(req, labelOf(t.id))
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, fmt.Errorf("tunnel %s: %w", t.id, err)
	}
	return resp, nil
}

// roundTrip sends req through the tunnel l. While a request has not been
// written to any session it may go to another: sessions are replaced all the
// time. On error req.Body may be open still.
func (s *Server) roundTrip(req *http.Request, l label) (*http.Response, error) {
	if req.URL == nil || req.Header == nil {
		return nil, errors.New("server: the request has no URL or no Header")
	}
	var err error
	repeatable := isSafe(req.Method) && (req.Body == nil || req.Body == http.NoBody)
	for range maxAttempts {
		sess, e := s.find(req.Context(), l)
		if e != nil {
			return nil, e
		}
		if sess == nil {
			if e := req.Context().Err(); e != nil {
				return nil, e
			}
			if s.isDraining() {
				return nil, errDraining
			}
			return nil, ErrNoTunnel
		}
		if err = sess.begin(req.Context()); err != nil {
			if errors.Is(err, errRetired) {
				sess.retire(0) // if it is dead and has not noticed yet
				continue
			}
			return nil, err
		}
		var resp *http.Response
		var sent bool
		resp, sent, err = sess.roundTrip(req)
		if err == nil {
			return resp, nil
		}
		if req.Context().Err() != nil || errors.Is(err, errBusy) || sess.tr.Usable() {
			return nil, err
		}
		if sent {
			// The session broke, or its client has refused the stream by a
			// GOAWAY. Once more, if its successor is there already.
			sess.retire(0)
			if !repeatable {
				return nil, err
			}
			if next, _ := s.registry.lookup(req.Context(), l); next == nil {
				return nil, err
			}
			repeatable = false
			continue
		}
		// The session was on its way out, and knows nothing of the request.
		sess.retire(sess.ownCode())
	}
	if errors.Is(err, errRetired) {
		return nil, ErrNoTunnel
	}
	return nil, err
}

// isSafe reports whether a request by this method may be made twice (RFC 9110,
// section 9.2.1).
func isSafe(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// find returns the session to send a request to, or nil if there is none. Soon
// after the start it waits for one that has not been here yet.
func (s *Server) find(ctx context.Context, l label) (*session, error) {
	for {
		sess, err := s.registry.lookup(ctx, l)
		left := time.Until(s.expectUntil)
		if sess != nil || err != nil || left <= 0 || s.isDraining() || ctx.Err() != nil {
			return sess, err
		}
		waiting, cancel := context.WithTimeout(ctx, left)
		come := s.registry.expect(waiting, l)
		cancel()
		if !come {
			return nil, nil
		}
	}
}

// roundTrip sends one request, which has been admitted by begin, and calls end
// when its answer is over. sent tells, in case of an error, whether the client
// may have seen any of it.
func (s *session) roundTrip(req *http.Request) (resp *http.Response, sent bool, err error) {
	over := false
	defer func() {
		if !over {
			s.end()
		}
	}()

	var written atomic.Bool
	var bad atomic.Pointer[error] // what is wrong with an interim answer
	var body *requestBody
	ctx, cancel := context.WithCancelCause(traced(req.Context(),
		func() { written.Store(true) },
		func() { body.wroteRequest() },
		func(code int, pass func() error) error { return body.interim(code, pass) },
		func(err error) { bad.Store(&err) }))
	out := req.WithContext(ctx)
	body = newRequestBody(req, out, s.srv.cfg.StallTimeout, s.srv.cfg.ResponseHeaderTimeout, cancel)

	head := time.AfterFunc(s.srv.headWait, func() {
		if !written.Load() {
			cancel(errBusy)
		}
	})
	resp, err = s.tr.RoundTrip(out)
	head.Stop()
	if err == nil {
		body.answered()
		err = checkAnswer(resp)
		if err != nil {
			resp.Body.Close()
		}
	}
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && req.Context().Err() == nil {
			err = cause // ours: a timeout
		}
		if b := bad.Load(); b != nil {
			err = *b
		}
		body.stop()
		cancel(nil)
		if e := body.viewersFault(); e != nil && req.Context().Err() == nil {
			err = fmt.Errorf("%w: %w", errBadBody, e)
		}
		return nil, written.Load() || body.started.Load(), err
	}
	over = true
	resp.Request = req
	if resp.StatusCode == http.StatusSwitchingProtocols && req.Method != http.MethodGet {
		// Response.Write adds "Content-Length: 0" to the 101 for a POST.
		get := *req
		get.Method = http.MethodGet
		resp.Request = &get
	}
	resp.Body = newAnswerBody(resp, s.srv.cfg.StallTimeout, body.end, func() {
		body.stop()
		cancel(nil)
		s.end()
	})
	return resp, true, nil
}

// errFor translates the error of a round trip into what the viewer gets.
func errFor(err error) *failure {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errDraining): // before what it wraps
		return failLeft
	case errors.Is(err, ErrNoTunnel):
		return failNoTunnel
	case errors.Is(err, errBusy):
		return failBusy
	case errors.Is(err, errHeaderTimeout):
		return failHeaderTimeout
	case errors.Is(err, errStalled):
		return failStalled
	case errors.Is(err, errBadAnswer):
		return failBadAnswer
	case errors.Is(err, errBadBody):
		return failBadBody
	}
	return failBroken
}

// newAnswerBody wraps the body of resp: endRequest is called before it is
// closed, done after that, and trailers that must not reach a viewer are
// dropped at its end. The body of a 101 stays an io.ReadWriteCloser.
func newAnswerBody(resp *http.Response, stall time.Duration, endRequest, done func()) io.ReadCloser {
	done = sync.OnceFunc(done)
	if b, ok := resp.Body.(upgradedBody); ok && resp.StatusCode == http.StatusSwitchingProtocols {
		u := &upgradedAnswer{upgradedBody: b, done: done}
		u.dog = &watchdog{timeout: stall, bite: func() { u.Close() }}
		return u
	}
	return &answerBody{resp.Body, resp, endRequest, done}
}

type answerBody struct {
	io.ReadCloser
	resp       *http.Response
	endRequest func()
	done       func()
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		checkTrailer(b.resp.Trailer)
	}
	return n, err
}

func (b *answerBody) Close() error {
	// First, since x/net waits for a Read of the request's body to return, and
	// the viewer may wait for the end of the answer before it sends more.
	b.endRequest()
	err := b.ReadCloser.Close()
	checkTrailer(b.resp.Trailer)
	b.done()
	return err
}

type upgradedBody interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// upgradedAnswer is the stream of an upgrade. A target that takes no bytes of
// it, although some are there, for the stall timeout, loses it.
type upgradedAnswer struct {
	upgradedBody
	done   func()
	dog    *watchdog   // of Write
	broken atomic.Bool // a Read or Write has failed
}

func (b *upgradedAnswer) Read(p []byte) (int, error) {
	n, err := b.upgradedBody.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(true)
	}
	return n, err
}

func (b *upgradedAnswer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		var k int
		b.dog.watch()
		k, err = b.upgradedBody.Write(p[:min(len(p), maxBodyRead)])
		b.dog.done()
		p, n = p[k:], n+k
	}
	if err != nil {
		b.broken.Store(true)
	}
	return n, err
}

func (b *upgradedAnswer) Close() error {
	err := b.upgradedBody.Close()
	b.done()
	return err
}
