package server

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// Bounds of the fields of one message, a request or an answer. A header list of
// 64 KiB can have thousands of fields, each of which costs far more in memory than
// it did on the wire, and x/net's server takes time for the square of the number
// of trailers.
const (
	maxFields   = 1000 // values of a header
	maxTrailers = 100  // names of a trailer
)

// tooManyFields reports whether a message has more fields than it may.
func tooManyFields(header, trailer http.Header) bool {
	if len(trailer) > maxTrailers {
		return true
	}
	n := 0
	for _, vv := range header {
		n += len(vv)
	}
	return n > maxFields
}

// hopByHop are the fields that speak about one connection (RFC 9110, section
// 7.6.1). They never cross, in trailers either: an HTTP/2 end that is stricter than
// Go's ends the stream or the session.
var hopByHop = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Proxy-Connection": true,
	"Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
}

// mayTrail reports whether name, in the spelling of net/http, may be that of a
// trailer (RFC 9110, section 6.5.1).
func mayTrail(name string) bool {
	return httpguts.ValidTrailerHeader(name) && !hopByHop[name] && name != "Http2-Settings" && !strings.HasPrefix(name, wire.HeaderPrefix)
}

// trimValues removes the white space around the values of h, which HTTP/2 libraries
// that are stricter than Go's do not take (RFC 9113, section 8.2.1). Of headers that
// go into a tunnel, h2conn does that.
func trimValues(h http.Header) {
	for _, vv := range h {
		for i, v := range vv {
			vv[i] = strings.Trim(v, " \t")
		}
	}
}

// Bounds of the header list of an answer to an HTTP/2 viewer. Browsers and libraries
// end the whole connection for a larger one, with all requests on it: Chromium above
// 256 KiB, nghttp2, which Node.js has, for a single field above 64 KiB.
const (
	maxViewerList  = 128 << 10 // if the viewer has named no limit
	maxViewerField = 63 << 10
)

// fitsViewer reports whether an HTTP/2 viewer takes h as a header or as trailers.
func (x *exchange) fitsViewer(h http.Header) bool {
	if x.w == nil || x.http1 || x.hop != nil {
		return true
	}
	limit := int64(maxViewerList)
	if vc := viewerConnOf(x.conn); vc != nil {
		if w := vc.watched.Load(); w != nil && w.HeaderListLimit() > 0 {
			limit = w.HeaderListLimit()
		}
	}
	size := int64(listOverhead)
	for k, vv := range h {
		for _, v := range vv {
			if len(k)+len(v) > maxViewerField {
				return false
			}
			size += int64(len(k)+len(v)) + 32 // RFC 9113, section 6.5.2
		}
	}
	return size <= limit
}

// listOverhead is for what the server adds: the status, and a Date perhaps.
const listOverhead = 256
