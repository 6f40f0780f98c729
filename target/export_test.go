package target

import (
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
)

func RequestTarget(r *http.Request) url.URL { return requestTarget(r, "") }

// NewDialer returns what targets are dialled with.
func NewDialer() *net.Dialer { return newDialer() }

// SetDialer replaces it.
func (o *Options) SetDialer(d *net.Dialer) { o.dialer = d }

// ParseTarget returns the scheme and host of a target.
func ParseTarget(s string) (scheme, host string, err error) {
	if _, err := New(s, Options{}); err != nil {
		return "", "", err
	}
	t, _ := parseTarget(s, newDialer())
	return t.scheme, t.host, nil
}

// Classify returns the RFC 9209 error type and status for err.
func Classify(err error) (kind string, status int) {
	f := classify(err)
	return f.kind, f.status
}

// RewriteRedirects changes h, the header of the answer to r, as a Proxy does
// with that option. r is the request to the target.
func RewriteRedirects(r *http.Request, h http.Header) {
	newRedirectRewriter(r, r, forwardedPrefix(r), nil).apply(h)
}

// RedirectHeaderNames returns the headers that are rewritten.
func RedirectHeaderNames() []string { return slices.Collect(maps.Keys(redirectHeaders)) }
