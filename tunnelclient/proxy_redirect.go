package tunnelclient

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// redirectRewriter makes the URLs in an answer's headers lead back into the
// tunnel, for a target that does not know that viewers see it below a prefix.
type redirectRewriter struct {
	prefix string   // path, without a trailing slash; never empty
	hosts  []string // authorities that mean the target itself
}

// newRedirectRewriter returns one for the answer to r, the request to the
// target, or nil if the service has named no prefix.
func newRedirectRewriter(r *http.Request) *redirectRewriter {
	prefix := forwardedPrefix(r)
	if prefix == "" {
		return nil
	}
	hosts := []string{r.URL.Host, r.Host}
	if h := r.Header.Get("X-Forwarded-Host"); h != "" {
		hosts = append(hosts, h)
	}
	return &redirectRewriter{prefix, hosts}
}

// refreshURL is the form of a Refresh header that names a URL.
var refreshURL = regexp.MustCompile(`(?i)^(\s*[0-9.]*\s*[;,]\s*(?:url\s*=\s*)?)(["']?)(.*?)(["']?\s*)$`)

// apply rewrites Location, Content-Location, Refresh and the Path of cookies
// in h.
func (w *redirectRewriter) apply(h http.Header) {
	for _, k := range [...]string{"Location", "Content-Location"} {
		for i, v := range h[k] {
			h[k][i] = w.reference(v)
		}
	}
	for i, v := range h["Refresh"] {
		if m := refreshURL.FindStringSubmatch(v); m != nil && m[3] != "" {
			h["Refresh"][i] = m[1] + m[2] + w.reference(m[3]) + m[4]
		}
	}
	for i, v := range h["Set-Cookie"] {
		h["Set-Cookie"][i] = w.cookie(v)
	}
}

// reference returns ref with the prefix if it is an absolute path, or a URL of
// the target itself, which becomes a path. Relative references are relative to
// a URL with the prefix already, and all others lead elsewhere.
func (w *redirectRewriter) reference(ref string) string {
	path := ref
	if !strings.HasPrefix(ref, "/") || strings.HasPrefix(ref, "//") {
		u, err := url.Parse(ref)
		if err != nil || u.User != nil || u.Host == "" || u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || !w.own(u) {
			return ref
		}
		// Cut by hand: what follows the authority stays as it is written.
		_, rest, _ := strings.Cut(ref, "//")
		path = "/"
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			path = rest[i:]
			if path[0] != '/' {
				path = "/" + path
			}
		}
	}
	if w.below(path) {
		return path
	}
	return w.prefix + path
}

// own reports whether u is on the target's own authority.
func (w *redirectRewriter) own(u *url.URL) bool {
	for _, h := range w.hosts {
		if strings.EqualFold(withoutDefaultPort(u.Host, u.Scheme), withoutDefaultPort(h, u.Scheme)) {
			return true
		}
	}
	return false
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
// service leaves such a path as it is.
func (w *redirectRewriter) cookie(c string) string {
	parts := strings.Split(c, ";")
	for i, part := range parts[1:] {
		name, value, ok := strings.Cut(part, "=")
		value = strings.Trim(value, " \t")
		if ok && strings.EqualFold(strings.Trim(name, " \t"), "path") && strings.HasPrefix(value, "/") && !w.below(value) {
			parts[i+1] = name + "=" + w.prefix + value
		}
	}
	return strings.Join(parts, ";")
}
