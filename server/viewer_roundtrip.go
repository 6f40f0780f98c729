package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/replay"
)

// maxAttempts is how often a request is tried that no tunnel client has seen any
// part of. Attempts that a client has refused do not count: replay has their number.
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

// RoundTrip is an exchange without a viewer.
func (t *roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	x := &exchange{srv: t.srv, live: t.srv.live.Load(), in: req, id: codeRequestID(req), tunnel: labelOf(t.id), out: outcome{start: time.Now()}}
	x.info = t.srv.recordCode(req, t.id, x.id)
	x.body.init(x, req.Body, req.Trailer)
	out := *req
	if req.Header != nil {
		out.Header = maps.Clone(req.Header)
		setRequestID(out.Header, x.id)
	}
	resp, err := x.send(&out)
	if err != nil {
		x.body.end()
		x.out.failure = errFor(err)
		x.finish()
		return nil, fmt.Errorf("tunnel %s: %w", t.id, err)
	}
	if resp.Request == &out {
		resp.Request = req
	}
	x.out.begun, x.out.status = time.Now(), resp.StatusCode
	return resp, nil
}

// send sends req, which is the exchange's own or a copy of it, through the
// tunnel. While a request has not been written to any session it may go to
// another: sessions are replaced all the time. So may one with which the client, as
// it says, has done nothing.
func (x *exchange) send(req *http.Request) (*http.Response, error) {
	if req.URL == nil || req.Header == nil {
		return nil, errors.New("server: the request has no URL or no Header")
	}
	var err error
	repeatable := isSafe(req.Method) && (req.Body == nil || req.Body == http.NoBody)
	refused := 0
	for try := 0; try-refused < maxAttempts; try++ {
		via, e := x.first, error(nil)
		if x.first = nil; via == nil {
			via, e = x.carrier(req.Context())
		}
		if refused > 0 && isAway(e) {
			return nil, err // there was one, which has refused the request
		}
		if e != nil {
			return nil, e
		}
		if err = via.begin(req.Context(), x.from); err != nil {
			if errors.Is(err, errRetired) {
				via.lost(0) // if it is dead and has not noticed yet
				continue
			}
			if errors.Is(err, errNodeAway) && x.shun(via) {
				continue
			}
			return nil, err
		}
		if err = x.begun(via); err != nil {
			via.end()
			return nil, err
		}
		a := &attempt{x: x, via: via, mayRepeat: repeatable}
		var resp *http.Response
		resp, err = a.roundTrip(req)
		if err == nil {
			return resp, nil
		}
		if req.Context().Err() != nil || errors.Is(err, errBusy) {
			return nil, err
		}
		if errors.Is(err, errNotHere) {
			if !x.shun(via) || !x.body.rewind() {
				return nil, errMoving
			}
			continue
		}
		if errors.Is(err, h2conn.ErrUnprocessed) {
			refused++
			if refused == replay.MaxTries || !x.body.rewind() {
				return nil, err
			}
			if !via.transport().Usable() {
				via.lost(0)
			}
			if e := replay.Pause(req.Context(), refused); e != nil {
				return nil, e
			}
			continue
		}
		if errors.Is(err, errNodeSilent) {
			repeatable = false
			continue
		}
		if via.transport().Usable() {
			return nil, err
		}
		if a.sent() {
			// The session broke. Once more, if a successor is there, or announced, for
			// which lookup waits.
			via.lost(0)
			if !repeatable {
				return nil, err
			}
			if next, way, _ := x.find(req.Context()); next == nil && way == nil {
				return nil, err
			}
			repeatable = false
			continue
		}
		// The session was on its way out, and knows nothing of the request.
		via.lost(via.ownCode())
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

// find returns the session to send the request to, or the way to the node that has it.
// Both are nil if there is none. Soon after the start, and after that node has turned out
// to be away, it waits for one that is not here yet.
func (x *exchange) find(ctx context.Context) (*session, *nodeHop, error) {
	s := x.srv
	for {
		sess, err := s.registry.lookup(ctx, x.tunnel)
		if sess != nil || err != nil || ctx.Err() != nil {
			return sess, nil, err
		}
		if x.hop != nil {
			return nil, nil, errNotHere // the node that has sent it looks further
		}
		way, err := s.cluster.find(ctx, x)
		if way == nil && s.cluster != nil {
			if x.sought.IsZero() {
				x.sought = time.Now()
			}
			x.patience = later(x.patience, s.cluster.news(x.tunnel, err != nil, x.sought))
		}
		left := time.Until(later(x.patience, s.expectUntil))
		if way != nil || left <= 0 || s.isDraining() || ctx.Err() != nil {
			return nil, way, err
		}
		waiting, cancel := context.WithTimeout(ctx, s.cluster.patience(x.tunnel, left))
		come := s.registry.expect(waiting, x.tunnel)
		crowded := !come && waiting.Err() == nil
		cancel()
		switch {
		case !come && s.cluster == nil:
			return nil, nil, nil
		case crowded: // otherwise this would go round and round
			return nil, nil, cmp.Or(err, errBusy)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
