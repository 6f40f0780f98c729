package server

import (
	"net/http"
	"strings"
)

// reach is how far a field of a target's answer acts.
type reach int

const (
	// reachAnswer: on the answer, the page made of it, and that page's requests.
	reachAnswer reach = iota

	// reachOrigin: on other answers of its origin, or on all requests to it. In
	// path mode those are other tunnels' too.
	reachOrigin

	// reachProxy: on the proxy, or the CDN, in front of the service, which is the
	// operator's and not the target's. It sends a file of its own, for example.
	reachProxy
)

// The lists below are the result of going through the IANA registry of HTTP fields
// and what browsers and proxies know beside it. testdata/http-fields.txt has the
// decision for each field, docs/security.md the reasons.
var (
	reachByName = names(map[reach]string{
		// These begin like others.
		reachAnswer: `
			Proxy-Status Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Protocol Sec-WebSocket-Version`,
		reachOrigin: `
			Accept-CH Accept-CH-Lifetime Activate-Storage-Access Alt-Svc Alternate-Protocol
			Cache-Group-Invalidation Cache-Groups Clear-Site-Data Critical-CH Critical-Origin-Trial
			Expect-CT IdP-SignIn-Status NEL No-Vary-Search Observe-Browsing-Topics Origin-Agent-Cluster
			Origin-Isolation Origin-Policy Origin-Trial Public-Key-Pins Public-Key-Pins-Report-Only
			Report-To Reporting-Endpoints Set-Login Speculation-Rules Strict-Transport-Security Tk
			Use-As-Dictionary X-Allow-FLEDGE`,
		reachProxy: `
			Akamai-Cache-Control CDN-Cache-Control Fly-Replay X-Sendfile X-Sendfile2`,
	})
	reachByPrefix = prefixes(map[reach]string{
		reachOrigin: `Ad-Auction- Attribution-Reporting- Federation- Sec- Secure-Session- Service-Worker- Shared-Storage-`,
		reachProxy: `
			Edge- Fastly- Proxy- Surrogate- X-Accel- X-AppEngine- X-Envoy- X-Fastly- X-Lighttpd- X-LiteSpeed-
			X-Reproxy-`,
	})
)

// cdnCacheControl ends the names by which products extend CDN-Cache-Control.
const cdnCacheControl = "-Cdn-Cache-Control"

type prefixReach struct {
	prefix string
	reach  reach
}

func names(of map[reach]string) map[string]reach {
	m := make(map[string]reach)
	for r, names := range of {
		for name := range strings.FieldsSeq(names) {
			m[http.CanonicalHeaderKey(name)] = r
		}
	}
	return m
}

func prefixes(of map[reach]string) (all []prefixReach) {
	for r, names := range of {
		for name := range strings.FieldsSeq(names) {
			all = append(all, prefixReach{http.CanonicalHeaderKey(name), r})
		}
	}
	return all
}

// reachOf returns how far the field with this name, in the spelling of net/http,
// acts in an answer.
func reachOf(name string) reach {
	if r, ok := reachByName[name]; ok {
		return r
	}
	for _, p := range reachByPrefix {
		if strings.HasPrefix(name, p.prefix) {
			return p.reach
		}
	}
	if strings.HasSuffix(name, cdnCacheControl) {
		return reachProxy
	}
	return reachAnswer
}

// dropReaching removes from h the fields that reach that far.
func dropReaching(h http.Header, r reach) {
	for name := range h {
		if reachOf(name) == r {
			delete(h, name)
		}
	}
}

// dropOurStatus removes Proxy-Status (RFC 9209) if it speaks for the service or a
// tunnel client: only they say why a request failed. That of other proxies, before
// the target, passes.
func dropOurStatus(h http.Header) {
	for _, v := range h["Proxy-Status"] {
		if strings.Contains(strings.ToLower(v), serviceName) { // the tunnel client's begins with it
			delete(h, "Proxy-Status")
			return
		}
	}
}

// cleanReach removes what no answer of a target may say, in whichever mode.
func cleanReach(h http.Header) {
	dropReaching(h, reachProxy)
	dropOurStatus(h)
}
