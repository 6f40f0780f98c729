package server

import (
	"net/http"
	"strings"
)

// maxCookieAttribute is the length beyond which browsers ignore the value of
// a cookie's attribute (RFC 6265bis, section 5.6).
const maxCookieAttribute = 1024

// isolation keeps tunnels apart, as far as headers can. In path mode, where they
// share an origin, what a target says about its origin, and the cookies that it
// sets, are confined to its own path. Scripts still share the origin; only a
// host of its own for each tunnel separates those, and there nothing is left to
// do but to keep cookies on it.
//
// Cookies named __Host-… are a loss: browsers take them only with Path=/,
// which is every tunnel's (RFC 6265bis, section 4.1.3.2), and drop the
// rewritten ones. __Secure- works.
//
// The zero value isolates under the path "/<id>".
type isolation struct {
	// off makes apply do nothing in path mode.
	off bool

	// prefixPath is the path of the public URL, without a trailing slash.
	prefixPath string
}

// apply rewrites h, the headers of any answer (1xx and 101 too) to a request
// that rt led to a tunnel. To apply it twice is the same as once.
func (iso isolation) apply(h http.Header, rt route) {
	switch {
	case rt.ownHost:
		rewriteCookies(h, hostOnlyCookie)
	case !iso.off:
		dropReaching(h, reachOrigin)
		base := iso.prefixPath + "/" + rt.id
		rewriteCookies(h, func(c string) string { return isolateCookie(c, base, rt.rest) })
	}
}

func rewriteCookies(h http.Header, rewrite func(string) string) {
	delete(h, "Set-Cookie2") // obsolete (RFC 6265, section 9.4), but some programs read it
	cookies := h["Set-Cookie"]
	if len(cookies) == 0 {
		return
	}
	rewritten := make([]string, len(cookies))
	for i, c := range cookies {
		rewritten[i] = rewrite(c)
	}
	h["Set-Cookie"] = rewritten
}

// hostOnlyCookie removes Domain from one Set-Cookie header, so that the cookie
// is sent to no other host than the one that set it. Attributes are told apart
// as isolateCookie does it; every byte of the others is kept.
func hostOnlyCookie(cookie string) string {
	pair, attributes, found := strings.Cut(cookie, ";")
	if !found {
		return cookie
	}
	kept := []string{pair}
	for segment := range strings.SplitSeq(attributes, ";") {
		name, _, _ := strings.Cut(segment, "=")
		if !strings.EqualFold(trimWSP(name), "Domain") {
			kept = append(kept, segment)
		}
	}
	return strings.Join(kept, ";")
}

// isolateCookie rewrites one Set-Cookie header so that the cookie is sent to
// base and the paths below it, on this host, only. Attributes are told apart as
// RFC 6265, section 5.2, says that browsers do: no quoting, names without regard
// to case, the last Path counts, and one that does not begin with "/" means the
// default path. Every byte of everything but Path and Domain is kept.
//
// Where no Path counts, the default path is the request path's directory
// (section 5.1.4). That is below base already, unless the request was for base
// itself; only then is a Path added: base without a slash, so that the cookie
// comes back to base as well.
func isolateCookie(cookie, base, rest string) string {
	pair, attributes, found := strings.Cut(hostOnlyCookie(cookie), ";")
	path, at := "", -1
	var kept []string
	if found {
		for segment := range strings.SplitSeq(attributes, ";") {
			name, value, _ := strings.Cut(segment, "=")
			if !strings.EqualFold(trimWSP(name), "Path") {
				kept = append(kept, segment)
				continue
			}
			// Later ones take the place of the first, so that there is
			// one in the end and browsers cannot disagree about which.
			if at < 0 {
				at = len(kept)
				kept = append(kept, "")
			}
			path, kept[at] = trimWSP(value), segment
		}
	}

	isolated := isolatedPath(path, base)
	switch {
	case isolated == "" && rest == "":
		isolated = base
	case isolated == "" && at >= 0:
		kept = append(kept[:at], kept[at+1:]...)
	}
	switch {
	case isolated == "":
	case at < 0:
		kept = append(kept, " Path="+isolated)
	case isolated != path:
		kept[at] = " Path=" + isolated
	}
	if len(kept) == 0 {
		return pair
	}
	return pair + ";" + strings.Join(kept, ";")
}

// isolatedPath returns the Path attribute's value below base that stands for
// path, and "" if path is one that browsers replace by the default path. The
// root becomes base without a slash, for base+"/" would not match base itself
// (RFC 6265, section 5.1.4).
func isolatedPath(path, base string) string {
	if !strings.HasPrefix(path, "/") || len(path) > maxCookieAttribute {
		return ""
	}
	switch {
	case path == base, strings.HasPrefix(path, base+"/"):
		return path
	case path == "/", len(base)+len(path) > maxCookieAttribute:
		// Browsers would ignore a longer path. The whole tunnel is the
		// nearest that they accept.
		return base
	}
	return base + path
}

// trimWSP trims what RFC 6265 calls whitespace, which is less than what
// strings.TrimSpace does.
func trimWSP(s string) string { return strings.Trim(s, " \t") }
