package server

import (
	"net/http"
	"strings"
)

// viewerHosts tells which requests are for a tunnel's own host, and what that
// is called: host mode. The zero value knows no such hosts.
type viewerHosts struct {
	// domain is what follows "<label>." in them, in lower case. Empty: none.
	domain string

	// public is the service's own host, in lower case.
	public string

	// trusted may say what host the viewer asked for.
	trusted trustedProxies
}

// nameIn returns what stands before the domain in the host that r asks for: a
// tunnel's label, several labels, or nothing where r asks for the domain
// itself. It returns false for all other hosts, which are the service's.
//
// A proxy in front may have put its own name into Host. Then the viewer's is in
// X-Forwarded-Host, the nearest proxy's word last. Where Host names a tunnel it
// counts alone. Otherwise a proxy that lets a viewer's X-Forwarded-Host pass would
// let a page show another tunnel's answers as its own.
func (v viewerHosts) nameIn(r *http.Request) (name string, ok bool) {
	if v.domain == "" {
		return "", false
	}
	if name, ok = nameUnder(r.Host, v.domain); ok {
		return name, true
	}
	said := r.Header[headerForwardedHost]
	if len(said) == 0 {
		return "", false
	}
	if !v.trusted.sent(r) {
		return "", false
	}
	list := strings.Split(strings.Join(said, ","), ",")
	for i := len(list) - 1; i >= 0; i-- {
		host := strings.Trim(list[i], " \t")
		if name, ok = nameUnder(host, v.domain); ok {
			return name, true
		}
		if before, ok := nameUnder(host, v.public); ok && before == "" {
			return "", false // the viewer itself may have written the rest
		}
	}
	return "", false
}

// nameUnder returns what stands before domain in host, in lower case and
// without the dot between them. Case, a port and one trailing dot do not count.
func nameUnder(host, domain string) (name string, ok bool) {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	host = strings.TrimSuffix(host, ".")
	at := len(host) - len(domain)
	if at < 0 || lowerASCII(host[at:]) != domain {
		return "", false
	}
	if at == 0 {
		return "", true
	}
	return lowerASCII(host[:at-1]), host[at-1] == '.'
}

// lowerASCII is strings.ToLower without what Unicode folds into ASCII, such as
// the Kelvin sign.
func lowerASCII(s string) string {
	return strings.Map(func(c rune) rune {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}, s)
}

// clientURL returns the URL under which viewers reach the tunnel id, without a
// trailing slash. Scheme and port are always the public URL's.
func (s *settings) clientURL(id string) string {
	u := s.publicURL
	if s.ViewerDomain == "" {
		return u.Scheme + "://" + u.Host + u.Path + "/" + id
	}
	host := string(labelOf(id)) + "." + s.ViewerDomain
	if port := u.Port(); port != "" {
		host += ":" + port
	}
	return u.Scheme + "://" + host
}
