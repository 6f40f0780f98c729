package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A tunnel client is an HTTP/2 server that nobody here trusts. What it sends is
// checked here, between the tunnel and ReverseProxy, and not left to libraries:
// which of these faults they catch depends on their versions.

// checkAnswer returns an error if resp cannot go on to a viewer, and removes
// from it what must not.
func checkAnswer(resp *http.Response) error {
	if tooManyFields(resp.Header, resp.Trailer) {
		return fmt.Errorf("%w: more than %d header fields or %d trailers", failBadAnswer, maxFields, maxTrailers)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// Made by h2conn, with the two headers that it needs.
		cleanPrivate(resp.Header)
		cleanReach(resp.Header)
		return nil
	}
	if resp.StatusCode < 200 || resp.StatusCode > 599 {
		return fmt.Errorf("%w: status %d", failBadAnswer, resp.StatusCode)
	}
	if s := resp.Status; s != "" && (len(s) < 3 || !digits(s[:3]) || len(s) > 3 && s[3] != ' ') {
		return fmt.Errorf("%w: the status is not three digits", failBadAnswer)
	}
	if cl := resp.Header["Content-Length"]; len(cl) > 0 {
		for _, v := range cl {
			if v != cl[0] || !digits(v) {
				return fmt.Errorf("%w: Content-Length is contradictory or not a number", failBadAnswer)
			}
		}
		resp.Header["Content-Length"] = cl[:1]
	}
	if resp.StatusCode == http.StatusNoContent || resp.StatusCode == http.StatusNotModified {
		// They have no body, even if they name a length; x/net would wait for one.
		// And net/http does not carry the length to a viewer.
		resp.Body.Close()
		resp.Body, resp.ContentLength = http.NoBody, 0
		delete(resp.Header, "Content-Length")
	}
	// The trailers that the answer announces; x/net keeps them in Trailer.
	checkTrailer(resp.Trailer)
	keepLoopEnd(resp)
	cleanHeader(resp.Header)
	return nil
}

// cleanHeader removes the headers that no answer may carry on.
func cleanHeader(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for k := range h {
		if hopByHop[k] {
			delete(h, k)
		}
	}
	cleanReach(h)
	errType, failed := h[wire.HeaderError]
	cleanPrivate(h)
	trimValues(h)
	if failed { // for modifyAnswer, which makes a failure of it; Go callers get the header
		h[wire.HeaderError] = errType
	}
}

func cleanPrivate(h http.Header) {
	for k := range h {
		if strings.HasPrefix(k, wire.HeaderPrefix) {
			delete(h, k)
		}
	}
}

// forbiddenTrailers are those that httpguts lets pass and that would mean
// something if a recipient merged them into the header.
var forbiddenTrailers = [...]string{"Set-Cookie", "Set-Cookie2", "Host", "Location"}

// checkTrailer removes from t what must not be a trailer (RFC 9110, section
// 6.5.1).
func checkTrailer(t http.Header) {
	if len(t) > maxTrailers {
		clear(t) // they came with the end of the body, too late for another answer
		return
	}
	for k := range t {
		if !mayTrail(k) || reachOf(k) != reachAnswer {
			delete(t, k)
		}
	}
	for _, k := range forbiddenTrailers {
		delete(t, k)
	}
	dropOurStatus(t)
	trimValues(t)
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
