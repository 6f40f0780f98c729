package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// routeKind says where a request's path leads.
type routeKind int

const (
	// routeBad: the path is malformed, or its first segment can never be a
	// client id (see [wire.CheckID]). The answer is 400, except that a
	// CONNECT over HTTP/1 is answered 405.
	routeBad routeKind = iota
	// routeNone: the path is well-formed and leads nowhere: "/", or something
	// below a reserved segment. The answer is 404.
	routeNone
	// routeReserved: the path is exactly one of [wire.ReservedIDs].
	routeReserved
	// routeTunnel: the path belongs to the tunnel named by route.id.
	routeTunnel
)

// A route is a request's raw path, split at the end of the first segment. No
// byte of it has been decoded, cleaned or re-encoded. The zero value is a
// routeBad.
type route struct {
	kind routeKind
	// id is the first segment, without slashes: the client id of a
	// routeTunnel, the reserved segment of a routeReserved. Empty for a
	// routeBad.
	id string
	// rest is the raw path after id: empty or beginning with "/".
	rest string
	// query is the raw query without the "?". hasQuery tells "/id?" from "/id".
	query    string
	hasQuery bool
	// err, for a routeBad, says what is wrong with the path. It may quote the
	// first segment.
	err error
}

var (
	errNotAPath     = errors.New("the request target is neither a path nor an http or https URL")
	errEmptySegment = errors.New("the path's first segment is empty: it must be a client id")
)

// parseRoute splits the raw path of r. The bytes that the viewer sent are in
// r.RequestURI; they count if they still say what r.URL says. Where they do
// not, a handler in front has rewritten the path (http.StripPrefix, for
// instance), and r.URL counts.
func parseRoute(r *http.Request) route {
	if r.Method == http.MethodConnect && (r.ProtoMajor < 2 || r.URL.Path == "") {
		// The target of an ordinary CONNECT is an authority (RFC 9112,
		// section 3.2.3). The extended CONNECT of HTTP/2 has a path.
		return route{err: errNotAPath}
	}
	sent, err := url.ParseRequestURI(r.RequestURI)
	if err == nil && sent.Path == r.URL.Path && sent.RawPath == r.URL.RawPath &&
		sent.RawQuery == r.URL.RawQuery && sent.ForceQuery == r.URL.ForceQuery {
		return splitTarget(r.RequestURI)
	}
	if r.URL.Opaque != "" {
		return route{err: errNotAPath}
	}
	return splitPath(r.URL.EscapedPath(), r.URL.RawQuery, r.URL.ForceQuery || r.URL.RawQuery != "")
}

// splitTarget splits the request target of an HTTP request (RFC 9112, section
// 3.2) other than CONNECT. In absolute-form the authority is ignored; "*" is a
// routeBad.
func splitTarget(target string) route {
	target, ok := pathOf(target)
	if !ok {
		return route{err: errNotAPath}
	}
	path, query, hasQuery := strings.Cut(target, "?")
	return splitPath(path, query, hasQuery)
}

// pathOf returns the path and query of a request target in origin-form or
// absolute-form, and false for every other. An http URL without a host is
// invalid (RFC 9110, section 4.2.1).
func pathOf(target string) (string, bool) {
	if strings.HasPrefix(target, "/") {
		return target, true
	}
	scheme, rest, _ := strings.Cut(target, "://")
	if !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	return rest[end:], end > 0
}

// splitPath splits a raw path without its query. An empty path is the same as
// "/" (RFC 9110, section 4.2.3).
func splitPath(path, query string, hasQuery bool) route {
	if path == "" {
		path = "/"
	}
	if path[0] != '/' {
		return route{err: errNotAPath}
	}
	id, rest := path[1:], ""
	if i := strings.IndexByte(id, '/'); i >= 0 {
		id, rest = id[:i], id[i:]
	}
	rt := route{id: id, rest: rest, query: query, hasQuery: hasQuery}
	switch {
	case id == "" && rest == "":
		rt.kind = routeNone
	case id == "":
		return route{err: errEmptySegment}
	case wire.Reserved(id) && rest == "":
		rt.kind = routeReserved
	case wire.Reserved(id):
		rt.kind = routeNone
	default:
		if err := wire.CheckID(id); err != nil {
			return route{err: err}
		}
		rt.kind = routeTunnel
	}
	return rt
}

// rawPath returns the raw path, without the query.
func (rt route) rawPath() string { return "/" + rt.id + rt.rest }

// join returns the raw path and query, byte for byte as they were split. For a
// routeBad it means nothing.
func (rt route) join() string {
	if !rt.hasQuery {
		return rt.rawPath()
	}
	return rt.rawPath() + "?" + rt.query
}

// upstreamPath returns the raw path, without the query, that the tunnel client
// sees: rest, or "/" where that is empty.
func (rt route) upstreamPath() string {
	if rt.rest == "" {
		return "/"
	}
	return rt.rest
}
