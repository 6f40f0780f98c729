package target

import (
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// rewrite makes the request to the target: the first step of the exchange.
func (ex *exchange) rewrite(pr *httputil.ProxyRequest) {
	p, out := ex.p, pr.Out
	ex.prefix = forwardedPrefix(pr.In)
	prefix := ""
	if p.keeps {
		prefix = ex.prefix
		out.Header.Del("X-Forwarded-Prefix") // it announces what was stripped: nothing
	}
	*out.URL = requestTarget(pr.In, prefix)
	if prefix != "" && out.URL.Opaque == prefix+"/" && askedForBare(pr.In, prefix) {
		out.URL.Opaque = prefix
	}
	out.URL.Scheme, out.URL.Host = p.url.Scheme, p.url.Host
	if p.host != "" {
		out.Host = p.host
	}
	if p.rewrites {
		ex.redirects = newRedirectRewriter(out, pr.In, ex.prefix, p.further)
	}
	restoreRequest(pr)
	if p.origin != "" {
		p.rewriteOrigin(out.Header, pr.In)
	}
	p.request.apply(out.Header)
	ex.body.announce(pr.In.Trailer, p.request)
	if p.trace != nil {
		ex.traceOver = p.trace(out)
	}
}

// forwardedPrefix returns the prefix under which the viewer sees the target,
// as the service names it, without a trailing slash.
func forwardedPrefix(r *http.Request) string {
	prefix := strings.TrimRight(r.Header.Get("X-Forwarded-Prefix"), "/")
	if !strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, "//") || strings.ContainsAny(prefix, " ?#") {
		return ""
	}
	return prefix
}

// askedForBare reports whether the viewer's path was prefix without a slash
// behind it, which arrives as "/" like the one with it. The original path lacks
// what a proxy in front of the service has stripped.
func askedForBare(r *http.Request, prefix string) bool {
	path := r.Header.Get(wire.HeaderOriginalPath)
	return path != "" && strings.HasSuffix(prefix, path)
}

// requestTarget returns a URL from which net/http makes, byte for byte, the
// request target that r came with, behind prefix. That is r.RequestURI, unless
// a handler in between has changed r.URL.
func requestTarget(r *http.Request, prefix string) url.URL {
	in := r.URL
	out := url.URL{Path: in.Path, RawPath: in.RawPath, RawQuery: in.RawQuery, ForceQuery: in.ForceQuery}
	if !strings.HasPrefix(in.Path, "/") && in.Path != "*" { // http.StripPrefix
		out.Path, out.RawPath = "/"+in.Path, "/"+in.RawPath
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	u, err := url.ParseRequestURI(r.RequestURI)
	unchanged := err == nil && u.Scheme == "" &&
		u.Path == in.Path && u.RawPath == in.RawPath && u.RawQuery == in.RawQuery
	// As an Opaque, a path that begins with two slashes would be taken for an
	// authority. EscapedPath changes such a path only where it is invalid.
	switch {
	case unchanged && !strings.HasPrefix(prefix+path, "//"):
		out.Opaque = escapeSpaces(prefix + path)
	case prefix != "":
		out.Opaque = prefix + out.EscapedPath()
	}
	out.RawQuery = escapeSpaces(out.RawQuery)
	return out
}

// escapeSpaces keeps a space, which HTTP/2 lets pass, from ending the request
// target in the request line of HTTP/1.1.
func escapeSpaces(s string) string { return strings.ReplaceAll(s, " ", "%20") }
