package target

import (
	"net"
	"net/http"
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

	further map[string]bool // headers to rewrite beside redirectHeaders, in canonical form
}

// localhosts are the names under which a server on this machine may know
// itself. Those of an address to listen on are seen in Location headers too.
var localhosts = [...]string{"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"}

// newRedirectRewriter returns one for the answer to out, the request to the target,
// which is the viewer's request in and has the path that viewers see below prefix.
// further are headers to rewrite beside redirectHeaders.
func newRedirectRewriter(out, in *http.Request, prefix string, further map[string]bool) *redirectRewriter {
	w := &redirectRewriter{
		prefix:  prefix,
		scheme:  forwardedScheme(in),
		secure:  out.URL.Scheme == "https",
		public:  viewerHosts(in),
		further: further,
	}
	w.hosts = append([]string{out.URL.Host, out.Host}, w.public...)
	if host, port, err := net.SplitHostPort(out.URL.Host); err == nil && slices.Contains(localhosts[:], host) {
		for _, name := range localhosts {
			w.hosts = append(w.hosts, net.JoinHostPort(name, port))
		}
	}
	return w
}

// apply rewrites the URL references and the paths of cookies in h.
func (w *redirectRewriter) apply(h http.Header) {
	if w == nil {
		return
	}
	w.rewriteHeaders(h)
	for i, v := range h["Set-Cookie"] {
		h["Set-Cookie"][i] = w.cookie(v)
	}
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
