package server

import (
	"cmp"
	"net/http"
	"net/netip"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// Names of the headers that tell a target about its viewer.
const (
	headerForwarded       = "Forwarded"
	headerForwardedFor    = "X-Forwarded-For"
	headerForwardedHost   = "X-Forwarded-Host"
	headerForwardedProto  = "X-Forwarded-Proto"
	headerForwardedPrefix = "X-Forwarded-Prefix"
)

// viewersOwn are the headers, in lower case, that a viewer could use to lie
// to the target about who it is.
var viewersOwn = map[string]bool{
	"forwarded":          true,
	"true-client-ip":     true,
	"x-forwarded-for":    true,
	"x-forwarded-host":   true,
	"x-forwarded-port":   true,
	"x-forwarded-prefix": true,
	"x-forwarded-proto":  true,
	"x-real-ip":          true,
}

// forwarding sets the headers that tell a target about its viewer. The zero
// value trusts nobody and has no prefix path.
type forwarding struct {
	// trusted are the proxies in front of the service whose own forwarding
	// headers are believed and kept.
	trusted []netip.Prefix

	// prefixPath is the path of the public URL, without a trailing slash.
	prefixPath string
}

// apply rewrites out, the headers of the request to the target, for the
// viewer's request in. rawPath is the raw path, without the query, that the
// viewer requested. An empty id means that the tunnel has a host of its own,
// where there is no prefix.
//
// httputil.ReverseProxy removes some of these headers from its outgoing
// request before Rewrite runs, so what is kept of them is taken from in.
func (f forwarding) apply(out http.Header, in *http.Request, id, rawPath string) {
	peer, known := parseAddr(in.RemoteAddr)
	trusted := known && f.trusts(peer)
	proto := "http"
	if in.TLS != nil {
		proto = "https"
	}
	// What a trusted proxy said; nothing at all if the peer is not one.
	said := func(name string) string { return "" }
	if trusted {
		said = func(name string) string { return strings.Join(in.Header[name], ", ") }
	}

	dropViewersOwn(out, trusted)

	chain := said(headerForwardedFor)
	forwarded := said(headerForwarded)
	if !quotesClosed(forwarded) {
		// Whatever were appended would end up inside the open string.
		forwarded = ""
	}
	if forwarded == "" && chain != "" {
		forwarded = forwardedFromChain(chain, said(headerForwardedHost), said(headerForwardedProto))
	}
	forwarded = appendElement(forwarded, forwardedElement(peer, in.Host, proto))
	if known {
		chain = appendElement(chain, peer.String())
	}

	set(out, headerForwarded, forwarded)
	set(out, headerForwardedFor, chain)
	set(out, headerForwardedHost, cmp.Or(said(headerForwardedHost), in.Host))
	set(out, headerForwardedProto, cmp.Or(said(headerForwardedProto), proto))
	prefix := ""
	if id != "" {
		prefix = f.prefixPath + "/" + id
	}
	set(out, headerForwardedPrefix, prefix)
	set(out, wire.HeaderOriginalPath, rawPath)
}

// clientAddr returns the address that counts as the viewer's: the peer's or,
// behind trusted proxies, the rightmost one in X-Forwarded-For that is not
// itself such a proxy's. What stands left of that was written by somebody who
// is not trusted. It returns the zero Addr for a peer without an IP address,
// such as one on a Unix socket.
func (f forwarding) clientAddr(r *http.Request) netip.Addr {
	addr, ok := parseAddr(r.RemoteAddr)
	if !ok || !f.trusts(addr) {
		return addr
	}
	chain := strings.Split(strings.Join(r.Header[headerForwardedFor], ","), ",")
	for f.trusts(addr) && len(chain) > 0 {
		next, ok := parseAddr(strings.TrimSpace(chain[len(chain)-1]))
		if !ok {
			break
		}
		addr, chain = next, chain[:len(chain)-1]
	}
	return addr
}

func (f forwarding) trusts(a netip.Addr) bool {
	for _, p := range f.trusted {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// mayStandForMany reports whether connections from a may be those of many
// viewers, through a proxy.
func (f forwarding) mayStandForMany(a netip.Addr) bool { return a.IsLoopback() || f.trusts(a) }

// parseAddr parses an IP address with or without a port, as http.Request's
// RemoteAddr and the entries of X-Forwarded-For have it. The result is
// comparable: IPv4 inside IPv6 becomes IPv4 and a zone is dropped.
func parseAddr(s string) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(s)
	a := ap.Addr()
	if err != nil {
		if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
			s = s[1 : len(s)-1]
		}
		if a, err = netip.ParseAddr(s); err != nil {
			return netip.Addr{}, false
		}
	}
	return a.Unmap().WithZone(""), true
}

// dropViewersOwn deletes from h what a viewer may not tell the target. Many
// targets (CGI, WSGI, PHP) read "X_Real_Ip" as they read "X-Real-Ip", so a
// name spelled with underscores counts as well, and even behind a trusted
// proxy: proxies set the other spelling and may let this one through.
func dropViewersOwn(h http.Header, trusted bool) {
	for name := range h {
		if name == "" {
			continue
		}
		switch name[0] | 0x20 { // a quick look, as most names are others
		case 'f', 't', 'x':
		default:
			continue
		}
		dashed := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		private := strings.HasPrefix(dashed, privatePrefix)
		spoofed := viewersOwn[dashed] && (!trusted || strings.Contains(name, "_"))
		if private || spoofed {
			delete(h, name)
		}
	}
}

// maxHops is how many entries of an X-Forwarded-For are translated. No real chain
// of proxies has as many, and each entry becomes longer by that.
const maxHops = 100

var privatePrefix = strings.ToLower(wire.HeaderPrefix)

// forwardedFromChain translates an X-Forwarded-For of a trusted proxy that
// sent no Forwarded (RFC 7239, section 7.4), so that targets which read the
// one learn the same as targets which read the other. host and proto are the
// proxy's X-Forwarded-Host and X-Forwarded-Proto; they go with the first hop. Of
// a chain that is too long to be one it returns nothing.
func forwardedFromChain(chain, host, proto string) string {
	if strings.Count(chain, ",") >= maxHops {
		return ""
	}
	host, _, _ = strings.Cut(host, ",")
	proto, _, _ = strings.Cut(proto, ",")
	var forwarded string
	for entry := range strings.SplitSeq(chain, ",") {
		addr, _ := parseAddr(strings.TrimSpace(entry))
		forwarded = appendElement(forwarded, forwardedElement(addr, strings.TrimSpace(host), strings.TrimSpace(proto)))
		host, proto = "", ""
	}
	return forwarded
}

// forwardedElement returns one element of a Forwarded header (RFC 7239,
// section 4). The zero Addr becomes "unknown" (section 6.2); an empty host or
// proto is left out.
func forwardedElement(addr netip.Addr, host, proto string) string {
	node := "unknown"
	switch {
	case addr.Is4():
		node = addr.String()
	case addr.IsValid():
		node = "[" + addr.String() + "]"
	}
	element := "for=" + forwardedValue(node)
	if v := forwardedValue(host); v != "" {
		element += ";host=" + v
	}
	if v := forwardedValue(proto); v != "" {
		element += ";proto=" + v
	}
	return element
}

// forwardedValue returns s as a token or else as a quoted-string (RFC 9110,
// sections 5.6.2 and 5.6.4), and "" if s is empty or can be neither.
func forwardedValue(s string) string {
	token := true
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		case c < ' ' && c != '\t', c == 0x7f:
			return ""
		default:
			token = false
		}
	}
	if token {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// quotesClosed reports whether every quoted-string in s ends within s.
func quotesClosed(s string) bool {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		}
	}
	return !quoted
}

func appendElement(list, element string) string {
	if list == "" {
		return element
	}
	return list + ", " + element
}

// set is h.Set, except that an empty value means no header.
func set(h http.Header, name, value string) {
	if value == "" {
		h.Del(name)
		return
	}
	h.Set(name, value)
}
