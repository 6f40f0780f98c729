package server

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// routeKind says where a request's host and path lead.
type routeKind int

const (
	// routeBad: the path is malformed, or its first segment can never be a
	// client id (see [wire.CheckID]). The answer is 400, except that a
	// CONNECT over HTTP/1 is answered 405.
	routeBad routeKind = iota
	// routeNone: the path is well-formed and leads nowhere: "/", or something
	// below a reserved segment, or it is for a host that no tunnel can have. The
	// answer is 404.
	routeNone
	// routeReserved: the path is exactly one of [wire.ReservedIDs].
	routeReserved
	// routeTunnel: the path belongs to the tunnel that route.tunnel returns.
	routeTunnel
)

// A route is a request's raw path, split at the end of the first segment, or, on
// a tunnel's own host, not split at all. No byte of it has been decoded, cleaned
// or re-encoded. The zero value is a routeBad.
type route struct {
	kind routeKind
	// ownHost says that the request is for a host in the viewer domain. Its
	// routes are of all kinds but routeReserved.
	ownHost bool
	// label is, of a routeTunnel with ownHost, the tunnel.
	label label
	// id is the first segment, without slashes: the client id of a
	// routeTunnel, the reserved segment of a routeReserved. Empty for a
	// routeBad, and with ownHost.
	id string
	// rest is the raw path after id: empty or beginning with "/". With ownHost
	// it is the whole path and may be "*".
	rest string
	// query is the raw query without the "?". hasQuery tells "/id?" from "/id".
	query    string
	hasQuery bool
	// err, for a routeBad, says which rule the path breaks. It may quote the
	// first segment.
	err error
}

var (
	errNotAPath     = errors.New("the request target is neither a path nor an http or https URL")
	errEmptySegment = errors.New("the path's first segment is empty: it must be a client id")
)

// route says where r leads.
func (s *Server) route(r *http.Request) route {
	if name, ok := s.live.Load().hosts.nameIn(r); ok {
		return hostRoute(r, name)
	}
	rt := parseRoute(r)
	if rt.kind == routeTunnel && s.cfg.DisablePathMode {
		rt.kind = routeNone
	}
	return rt
}

// notFound returns the answer to what rt, a routeNone, leads to.
func (s *Server) notFound(rt route) *failure {
	switch {
	case wire.Reserved(rt.id):
		return failReserved
	case rt.ownHost, s.cfg.DisablePathMode:
		return failNoPaths
	}
	return failNotFound
}

// hostRoute is the route of r, whose host is name in the viewer domain. The
// domain itself, and deeper names, for which wildcards of DNS and certificates
// do not count, are nobody's.
func hostRoute(r *http.Request, name string) route {
	rt := route{ownHost: true}
	if !isLabel(name) {
		rt.kind = routeNone
		return rt
	}
	target, ok := targetOf(r)
	switch {
	case asksForServer(r):
		target = "*"
	case !ok:
		rt.err = errNotAPath
		return rt
	}
	rt.kind, rt.label = routeTunnel, label(name)
	rt.rest, rt.query, rt.hasQuery = strings.Cut(target, "?")
	return rt
}

// asksForServer reports whether r is an "OPTIONS *" (RFC 9112, section 3.2.4).
func asksForServer(r *http.Request) bool {
	if r.Method != http.MethodOptions {
		return false
	}
	absolute := r.URL.Host != "" && r.URL.Path == "" && r.URL.RawQuery == "" && !r.URL.ForceQuery
	return absolute || r.RequestURI == "*" && r.URL.Path == "*"
}

// parseRoute splits the raw path of r, in path mode.
func parseRoute(r *http.Request) route { return splitTarget(targetOf(r)) }

// targetOf returns the raw path and query of r, and false if it has no path. The
// bytes that the viewer sent are in r.RequestURI; they count if they still say
// what r.URL says. Where they do not, a handler in front has rewritten the path
// (http.StripPrefix, for instance), and r.URL counts.
func targetOf(r *http.Request) (string, bool) {
	if r.Method == http.MethodConnect && (r.ProtoMajor < 2 || r.URL.Path == "") {
		// The target of an ordinary CONNECT is an authority (RFC 9112,
		// section 3.2.3). The extended CONNECT of HTTP/2 has a path.
		return "", false
	}
	sent, err := url.ParseRequestURI(r.RequestURI)
	if err == nil && sent.Path == r.URL.Path && sent.RawPath == r.URL.RawPath &&
		sent.RawQuery == r.URL.RawQuery && sent.ForceQuery == r.URL.ForceQuery {
		return pathOf(r.RequestURI)
	}
	path := r.URL.EscapedPath()
	if r.URL.Opaque != "" || path != "" && path[0] != '/' {
		return "", false
	}
	if r.URL.ForceQuery || r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	return path, true
}

// pathOf returns the path and query of a request target (RFC 9112, section 3.2)
// in origin-form or absolute-form, and false for every other. The authority is
// ignored; the path may be empty. An http URL without a host is invalid (RFC
// 9110, section 4.2.1).
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

// splitTarget splits a raw path and query as targetOf or pathOf returned it. An empty
// path is the same as "/" (RFC 9110, section 4.2.3).
func splitTarget(target string, ok bool) route {
	if !ok {
		return route{err: errNotAPath}
	}
	path, query, hasQuery := strings.Cut(target, "?")
	if path == "" {
		path = "/"
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

// tunnel returns the tunnel that a routeTunnel leads to.
func (rt route) tunnel() label {
	if rt.ownHost {
		return rt.label
	}
	return labelOf(rt.id)
}

// name returns what the log calls that tunnel: its id, as far as the request
// tells it.
func (rt route) name() string {
	if rt.ownHost {
		return string(rt.label)
	}
	return rt.id
}

// rawPath returns the raw path, without the query.
func (rt route) rawPath() string {
	if rt.ownHost {
		return rt.upstreamPath()
	}
	return "/" + rt.id + rt.rest
}

// upstreamPath returns the raw path, without the query, that the tunnel client
// sees: rest, or "/" where that is empty.
func (rt route) upstreamPath() string {
	if rt.rest == "" {
		return "/"
	}
	return rt.rest
}
