package target

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

// headerChanges are what [Options] say about the headers of all requests, or of
// all answers.
type headerChanges struct {
	set   http.Header // canonical; never the caller's
	names []string    // those in set, and those to remove
}

// newHeaderChanges makes a copy of what Options say.
func newHeaderChanges(set http.Header, remove []string) headerChanges {
	c := headerChanges{set: http.Header{}}
	for name, values := range set {
		name = http.CanonicalHeaderKey(name)
		for _, v := range values {
			c.set[name] = append(c.set[name], textproto.TrimString(v))
		}
		c.names = append(c.names, name)
	}
	for _, name := range remove {
		c.names = append(c.names, http.CanonicalHeaderKey(name))
	}
	return c
}

// apply changes the header h.
func (c headerChanges) apply(h http.Header) {
	c.remove(h)
	for name, values := range c.set {
		h[name] = slices.Clone(values)
	}
}

// remove removes what apply removes or replaces. It is for interim answers and
// trailers: fields that are set stand in the header alone.
func (c headerChanges) remove(h http.Header) {
	for _, name := range c.names {
		delete(h, name)
	}
}

// removeTrailers is remove for the trailers of an answer whose header has gone
// out, as an [http.ResponseWriter] has them.
func (c headerChanges) removeTrailers(h http.Header) {
	for _, name := range c.names {
		delete(h, name)
		delete(h, http.TrailerPrefix+name)
	}
}

// ownRequestHeaders are the headers of a request that no option but the one named
// may set, and that none may remove.
var ownRequestHeaders = map[string]string{
	"Host":     "HostHeader (--host-header) sets it: use that",
	"Cdn-Loop": "by it the service finds requests that go round in circles (RFC 8586): leave it out",
}

// checkHeaders notes the faults of the options about headers.
func (o *Options) checkHeaders(faults *configerror.Faults) {
	faults.AddHeader("Options.RequestHeader", o.RequestHeader, ownRequestHeaders)
	faults.AddHeaderNames("Options.RemoveRequestHeader", o.RemoveRequestHeader, ownRequestHeaders)
	if len(o.RedirectHeaders) > 0 && !o.RewriteRedirects {
		faults.Add("Options.RedirectHeaders", "", "is only for RewriteRedirects (--rewrite-redirects): set that too")
	}
	faults.AddHeaderNames("Options.RedirectHeaders", o.RedirectHeaders, nil)
	faults.AddHeader("Options.ResponseHeader", o.ResponseHeader, nil)
	faults.AddHeaderNames("Options.RemoveResponseHeader", o.RemoveResponseHeader, nil)
}

// rewriteOrigin makes the Origin in h, the header of the request to the target for
// in, the target's own, if it is the one at which the viewer sees the target.
func (p *Proxy) rewriteOrigin(h http.Header, in *http.Request) {
	origin := h["Origin"]
	if len(origin) != 1 {
		return
	}
	scheme, host, _ := strings.Cut(origin[0], "://")
	if strings.EqualFold(scheme, viewerScheme(in)) && slices.ContainsFunc(viewerHosts(in), func(own string) bool {
		return sameHost(host, own, strings.ToLower(scheme))
	}) {
		h["Origin"] = []string{p.origin}
	}
}

// viewerScheme returns the scheme of the viewer's URL.
func viewerScheme(in *http.Request) string {
	scheme := forwardedScheme(in)
	switch {
	case scheme != "":
		return scheme
	case in.TLS != nil:
		return "https"
	}
	return "http"
}

// forwardedScheme returns the scheme of the viewer's URL as the service names it,
// or "".
func forwardedScheme(in *http.Request) string {
	scheme, _, _ := strings.Cut(in.Header.Get("X-Forwarded-Proto"), ",")
	return strings.ToLower(textproto.TrimString(scheme))
}

// viewerHosts returns the authority of the viewer's URL, as the service names it:
// a proxy in front of it may have named another before.
func viewerHosts(in *http.Request) []string {
	var hosts []string
	for h := range strings.SplitSeq(in.Header.Get("X-Forwarded-Host"), ",") {
		if h = textproto.TrimString(h); h != "" {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		hosts = append(hosts, in.Host)
	}
	return hosts
}

// sameHost reports whether two authorities are the same in a URL of this scheme.
func sameHost(a, b, scheme string) bool {
	return a != "" && strings.EqualFold(withoutDefaultPort(a, scheme), withoutDefaultPort(b, scheme))
}
