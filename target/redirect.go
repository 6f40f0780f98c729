package target

import (
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redirectRewriter makes the URLs in an answer's headers lead back into the
// tunnel, for a target that does not know that viewers see it below a prefix.
type redirectRewriter struct {
	prefix string   // path, without a trailing slash; "" on a host of the tunnel's own
	scheme string   // the viewer's, or "" if unknown
	secure bool     // the target speaks TLS
	hosts  []string // authorities that mean the target itself
	public []string // those that are the viewer's
}

// localhosts are the names under which a server on this machine may know
// itself. Those of an address to listen on are seen in Location headers too.
var localhosts = [...]string{"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}

// newRedirectRewriter returns one for the answer to r, the request to the
// target, which viewers see under prefix.
func newRedirectRewriter(r *http.Request, prefix string) *redirectRewriter {
	w := &redirectRewriter{
		prefix: prefix,
		scheme: r.Header.Get("X-Forwarded-Proto"),
		secure: r.URL.Scheme == "https",
		hosts:  []string{r.URL.Host, r.Host},
	}
	for h := range strings.SplitSeq(r.Header.Get("X-Forwarded-Host"), ",") {
		if h = strings.Trim(h, " \t"); h != "" {
			w.public = append(w.public, h)
		}
	}
	w.hosts = append(w.hosts, w.public...)
	if host, port, err := net.SplitHostPort(r.URL.Host); err == nil && slices.Contains(localhosts[:], host) {
		for _, name := range localhosts {
			w.hosts = append(w.hosts, net.JoinHostPort(name, port))
		}
	}
	return w
}

// refreshURL is the form of a Refresh header that names a URL, as browsers
// read it: what follows a quoted URL does not count.
var refreshURL = regexp.MustCompile(`(?is)^(\s*[0-9.]*(?:\s*[;,]\s*|\s+)(?:url\s*=\s*)?)("[^"]*|'[^']*|.*)(.*)$`)

// apply rewrites Location, Content-Location, Refresh and the Path of cookies
// in h.
func (w *redirectRewriter) apply(h http.Header) {
	for _, k := range [...]string{"Location", "Content-Location"} {
		for i, v := range h[k] {
			h[k][i] = w.reference(v)
		}
	}
	for i, v := range h["Refresh"] {
		if m := refreshURL.FindStringSubmatch(v); m != nil {
			ref := strings.TrimLeft(m[2], `"'`)
			quote := m[2][:len(m[2])-len(ref)]
			h["Refresh"][i] = m[1] + quote + w.reference(ref) + m[3]
		}
	}
	for i, v := range h["Set-Cookie"] {
		h["Set-Cookie"][i] = w.cookie(v)
	}
}

// reference returns ref with the prefix if it is an absolute path, or a URL of
// the target itself, which becomes a path. Relative references are relative to
// a URL with the prefix already, and all others lead elsewhere.
//
// A URL on the viewer's host stays one if it takes the viewer from http to
// https, and the target does not say https only because it speaks that itself:
// as a path it would lead the viewer in a circle.
func (w *redirectRewriter) reference(ref string) string {
	authority, path := "", ref
	if !strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, "//") {
		// Cut by hand: what follows the authority stays as it is written.
		before, rest, _ := strings.Cut(ref, "//")
		authority, path = before+"//"+rest, "/"
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			authority, path = before+"//"+rest[:i], rest[i:]
			if path[0] != '/' {
				path = "/" + path
			}
		}
		u, err := url.Parse(authority)
		if err != nil || !w.on(u, w.hosts) {
			return ref
		}
		if u.Scheme != "https" || w.scheme != "http" || w.secure || !w.on(u, w.public) {
			authority = ""
		}
	}
	switch {
	case w.prefix == "" && strings.HasPrefix(path, "//"):
		return ref // as a path it would name a host
	case !w.below(path):
		path = w.prefix + path
	}
	return authority + path
}

// on reports whether u is a web address on one of hosts.
func (w *redirectRewriter) on(u *url.URL, hosts []string) bool {
	scheme := u.Scheme
	switch scheme {
	case "http", "https":
	case "":
		scheme = w.scheme
	default:
		return false
	}
	return u.User == nil && u.Host != "" && slices.ContainsFunc(hosts, func(h string) bool {
		return strings.EqualFold(withoutDefaultPort(u.Host, scheme), withoutDefaultPort(h, scheme))
	})
}

func withoutDefaultPort(host, scheme string) string {
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

// below reports whether path has the prefix already.
func (w *redirectRewriter) below(path string) bool {
	rest, ok := strings.CutPrefix(path, w.prefix)
	return ok && (rest == "" || strings.ContainsRune("/?#", rune(rest[0])))
}

// cookie returns a Set-Cookie value with the prefix before its Path. The
// service leaves such a path as it is. Cookies named __Host-… stay as they are:
// browsers accept them with Path=/ only.
func (w *redirectRewriter) cookie(c string) string {
	const host = "__Host-"
	if name := strings.TrimLeft(c, " \t"); len(name) >= len(host) && strings.EqualFold(name[:len(host)], host) {
		return c
	}
	parts := strings.Split(c, ";")
	for i, part := range parts[1:] {
		name, value, ok := strings.Cut(part, "=")
		value = strings.Trim(value, " \t")
		if ok && strings.EqualFold(strings.Trim(name, " \t"), "path") && strings.HasPrefix(value, "/") && !w.below(value) {
			if value == "/" && w.prefix != "" {
				value = "" // "/<id>/" would not match "/<id>" (RFC 6265, section 5.1.4)
			}
			parts[i+1] = name + "=" + w.prefix + value
		}
	}
	return strings.Join(parts, ";")
}
