package h2conn

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const (
	// maxRequests is how many requests one connection carries in its life: it
	// has 2^30 stream identifiers for them (RFC 9113, section 5.1.1).
	maxRequests = 1<<30 - 1<<10

	// admissionPoll is how often a request asks at most, and at least, whether
	// the peer admits one more stream.
	admissionPollMin = time.Millisecond
	admissionPollMax = 50 * time.Millisecond
)

var errUnusable = errors.New("h2conn: the connection takes no new requests")

// send sends req as soon as the peer admits one more stream.
//
// x/net can wait for that too, but it is not to: it does not notice a limit that
// has been raised, and a request that is cancelled at the wrong moment waits on
// while all others queue up behind it.
func (t *Transport) send(req *http.Request) (*http.Response, error) {
	if err := t.reserve(req.Context()); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	t.requests.Add(1)
	return t.cc.RoundTrip(req) // which uses the reservation up
}

// reserve returns when x/net has a stream to spare for one call of its
// RoundTrip.
func (t *Transport) reserve(ctx context.Context) error {
	if t.cc.ReserveNewRequest() {
		return nil
	}
	for wait := admissionPollMin; ; wait = min(2*wait, admissionPollMax) {
		if !t.Usable() {
			return errUnusable
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-t.Done():
			timer.Stop()
			return errUnusable
		}
		if t.cc.ReserveNewRequest() {
			return nil
		}
	}
}

// Usable reports whether the Transport takes new requests, now or as soon as
// one in flight has ended. It does not once the connection is going or gone, and
// neither after the peer has reset a stream with PROTOCOL_ERROR: x/net then lets
// what is in flight finish and waits for the owner to close.
func (t *Transport) Usable() bool {
	if t.requests.Load() >= maxRequests {
		return false
	}
	if t.cc.CanTakeNewRequest() {
		return true
	}
	s := t.cc.State()
	return !s.Closed && !s.Closing
}
