package target

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/replay"
)

// send sends out, and again while the target says that it has done nothing with it
// and all that was sent of its body is kept (RFC 9113, section 8.7).
func (ex *exchange) send(out *http.Request, upgrade bool) (*http.Response, error) {
	for try := 1; ; try++ {
		ex.body.attach(out)
		resp, err := ex.sendOnce(out, upgrade)
		switch {
		case err == nil:
			ex.body.settle()
			return resp, nil
		case !unprocessed(err):
			return nil, err
		case !ex.body.rewind():
			return nil, fmt.Errorf("%w, and more of its body was sent than is kept: %w", errUnprocessed, err)
		case try == replay.MaxTries:
			return nil, fmt.Errorf("%w, in %d tries: %w", errUnprocessed, try, err)
		}
		if err := replay.Pause(out.Context(), try); err != nil {
			return nil, err
		}
	}
}

// sendOnce sends out on a connection that speaks what the target wants.
func (ex *exchange) sendOnce(out *http.Request, upgrade bool) (resp *http.Response, err error) {
	p := ex.p
	if upgrade {
		return roundTripHTTP1(p.upgrades, out)
	}
	for range 3 { // a target that changes its mind more often does not know its own
		if p.http2.expected() {
			resp, err = p.http2.RoundTrip(out)
		} else {
			resp, err = roundTripHTTP1(p.plain, out)
		}
		if !errors.Is(err, errSpeaksHTTP1) && !errors.Is(err, errSpeaksHTTP2) {
			return resp, err
		}
		ex.body.rewind() // nothing has been read
	}
	return nil, err
}

// roundTripHTTP1 sends r by tr, for which TLS is nothing of its business.
func roundTripHTTP1(tr *http.Transport, r *http.Request) (*http.Response, error) {
	out := *r
	out.URL = new(url.URL)
	*out.URL = *r.URL
	out.URL.Scheme = "http"
	resp, err := tr.RoundTrip(&out)
	if resp != nil {
		resp.Request = r
	}
	return resp, err
}

// errUnprocessed is about a request with which the target, as it says itself, has
// done nothing.
var errUnprocessed = errors.New("the target did not process the request")

// unprocessed reports whether err is of such a request: its stream was reset with
// REFUSED_STREAM, came behind the last one of a GOAWAY, or was never begun.
// PROTOCOL_ERROR says nothing of the kind, though net/http sends again what gets
// that. There are no values or types for GOAWAY.
func unprocessed(err error) bool {
	var reset streamError
	if errors.As(err, &reset) {
		return reset.Code == codeRefusedStream
	}
	s := err.Error()
	return strings.Contains(s, "received Server's graceful shutdown GOAWAY") ||
		strings.Contains(s, "Transport received GOAWAY from server") ||
		strings.Contains(s, "http2: client conn not usable")
}
