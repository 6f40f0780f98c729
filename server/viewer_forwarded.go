package server

import (
	"cmp"
	"net"
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

// trustedProxies are the proxies in front of the service whose own forwarding
// headers are believed and kept. The zero value trusts nobody.
type trustedProxies struct {
	prefixes []netip.Prefix

	// unix trusts all peers on a Unix socket.
	unix bool
}

func (t trustedProxies) has(a netip.Addr) bool {
	for _, p := range t.prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// sent reports whether r came straight from one of them.
func (t trustedProxies) sent(r *http.Request) bool {
	if peer, ok := parseAddr(r.RemoteAddr); ok {
		return t.has(peer)
	}
	if !t.unix {
		return false
	}
	// A peer on a Unix socket has no name that could be relied on.
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && local.Network() == "unix"
}

// mayStandForMany reports whether connections from a may be those of many
// viewers, through a proxy.
func (t trustedProxies) mayStandForMany(a netip.Addr) bool { return a.IsLoopback() || t.has(a) }

// forwarding sets the headers that tell a target about its viewer. The zero
// value trusts nobody and has no prefix path.
type forwarding struct {
	trusted trustedProxies

	// scheme and prefixPath are the public URL's; the path has no trailing
	// slash.
	scheme, prefixPath string
}

// apply rewrites out, the headers of the request to the target, for the
// viewer's request in. rawPath is the raw path, without the query, that the
// viewer requested. An empty id means that the tunnel has a host of its own,
// where there is no prefix.
//
// httputil.ReverseProxy removes some of these headers from its outgoing
// request before Rewrite runs, so those that stay are taken from in.
func (f forwarding) apply(out http.Header, in *http.Request, id, rawPath string) {
	peer, known := parseAddr(in.RemoteAddr)
	trusted := f.trusted.sent(in)
	// What a trusted proxy said; nothing at all if the peer is not one.
	said := func(name string) string { return "" }
	if trusted {
		said = func(name string) string { return strings.Join(in.Header[name], ", ") }
	}

	dropClaims(out, trusted)

	chain := said(headerForwardedFor)
	forwarded := said(headerForwarded)
	if !quotesClosed(forwarded) {
		// An element behind it would end up inside the open string.
		forwarded = ""
	}
	proto := "http"
	if in.TLS != nil {
		proto = "https"
	}
	saidProto := cmp.Or(said(headerForwardedProto), lastProto(forwarded))
	if trusted && saidProto == "" && f.scheme != "" {
		proto = f.scheme // the proxy, which ends TLS, says nothing
	}
	if forwarded == "" && chain != "" {
		forwarded = forwardedFromChain(chain, said(headerForwardedHost), cmp.Or(saidProto, f.scheme))
	}
	forwarded = appendElement(forwarded, forwardedElement(peer, in.Host, proto))
	if known {
		chain = appendElement(chain, peer.String())
	}

	values := make([]string, 0, 6) // all of them, in one allocation
	set := func(name, value string) {
		if value == "" {
			delete(out, name)
			return
		}
		n := len(values)
		values = append(values, value)
		out[name] = values[n : n+1 : n+1]
	}
	set(headerForwarded, forwarded)
	set(headerForwardedFor, chain)
	set(headerForwardedHost, cmp.Or(said(headerForwardedHost), in.Host))
	set(headerForwardedProto, cmp.Or(saidProto, proto))
	prefix := ""
	if id != "" {
		prefix = f.prefixPath + "/" + id
	}
	set(headerForwardedPrefix, prefix)
	set(wire.HeaderOriginalPath, rawPath)
}

// clientAddr returns the address that counts as the viewer's: the peer's or,
// behind trusted proxies, the rightmost one in X-Forwarded-For that is not
// itself such a proxy's. What stands left of that was written by somebody who
// is not trusted. It returns the zero Addr for a peer without an IP address,
// such as one on a Unix socket that is not trusted, or names no viewer.
func (f forwarding) clientAddr(r *http.Request) netip.Addr {
	addr, _ := parseAddr(r.RemoteAddr)
	if !f.trusted.sent(r) {
		return addr
	}
	chain := strings.Split(strings.Join(r.Header[headerForwardedFor], ","), ",")
	for trusted := true; trusted && len(chain) > 0; trusted = f.trusted.has(addr) {
		next, ok := parseAddr(strings.TrimSpace(chain[len(chain)-1]))
		if !ok {
			break
		}
		addr, chain = next, chain[:len(chain)-1]
	}
	return addr
}

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
	b := append(make([]byte, 0, 128), "for="...)
	switch {
	case addr.Is4():
		b = addr.AppendTo(b)
	case addr.IsValid():
		b = append(addr.AppendTo(append(b, `"[`...)), `]"`...)
	default:
		b = append(b, "unknown"...)
	}
	b = appendForwarded(b, ";host=", host)
	b = appendForwarded(b, ";proto=", proto)
	return string(b)
}

// appendForwarded appends name and s to b: s as a token if it is one, and otherwise
// as a quoted-string (RFC 9110, sections 5.6.2 and 5.6.4). It appends nothing if s is
// empty or can be neither.
func appendForwarded(b []byte, name, s string) []byte {
	if isToken(s) {
		return append(append(b, name...), s...)
	}
	if s == "" {
		return b
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return b
		}
	}
	b = append(append(b, name...), '"')
	for i := range len(s) {
		if s[i] == '\\' || s[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// lastProto returns the scheme that the last element of a Forwarded names, which
// is the nearest proxy's, or "". It looks for no more than a token.
func lastProto(forwarded string) string {
	last := forwarded[strings.LastIndexByte(forwarded, ',')+1:]
	for pair := range strings.SplitSeq(last, ";") {
		name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "=")
		value = strings.Trim(value, `"`)
		if strings.EqualFold(name, "proto") && isToken(value) {
			return strings.ToLower(value)
		}
	}
	return ""
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
