package server

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// Each request has a name, by which it is found in the logs of both ends, in an error
// page, and at the target: 128 random bits in hex, or what a trusted proxy calls it.

// headerPublicID is the header by which proxies and targets know a request.
const headerPublicID = "X-Request-Id"

// requestID returns the name of a viewer's request.
func (s *Server) requestID(r *http.Request) string {
	if id := r.Header[headerPublicID]; len(id) == 1 && saneRequestID(id[0]) && s.live.Load().forwarding.trusted.sent(r) {
		return id[0]
	}
	return newRequestID()
}

// codeRequestID returns the name of a request of Go code, which may have given it one.
func codeRequestID(r *http.Request) string {
	if id := r.Header[headerPublicID]; len(id) == 1 && saneRequestID(id[0]) {
		return id[0]
	}
	return newRequestID()
}

// saneRequestID reports whether id can be the name of a request: it stands in logs,
// pages and headers without quotation marks.
func saneRequestID(id string) bool {
	if id == "" || len(id) > wire.MaxRequestID {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '_', c == '.', c == '~', c == '+', c == '/', c == '=', c == ':', c == '@':
		default:
			return false
		}
	}
	return true
}

func newRequestID() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], rand.Uint64())
	binary.BigEndian.PutUint64(b[8:], rand.Uint64())
	var text [2 * len(b)]byte
	hex.Encode(text[:], b[:])
	return string(text[:])
}

// setRequestID tells the target, by the header h, what the request is called. A
// viewer's own name for it stays.
func setRequestID(h http.Header, id string) {
	values := []string{id, id} // one allocation for both
	h[wire.HeaderRequestID] = values[:1:1]
	if _, ok := h[headerPublicID]; !ok {
		h[headerPublicID] = values[1:]
	}
}
