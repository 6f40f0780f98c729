package server

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// parsePublicURL returns the public URL without a trailing slash, or nil after
// it has noted a fault.
func parsePublicURL(s string, faults *configerror.Faults) *url.URL {
	u := faults.URL("PublicURL", s, "https://tunnel.example.com", publicURLRule)
	if u == nil {
		return nil
	}
	u.Path, u.RawPath = strings.TrimRight(u.EscapedPath(), "/"), ""
	return u
}

// publicURLRule returns the rule that u breaks as the public URL, or "".
func publicURLRule(u *url.URL) string {
	path := strings.TrimRight(u.EscapedPath(), "/")
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return "its scheme must be http or https"
	case u.Hostname() == "":
		return "it has no host"
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "it must be http(s)://host[:port][/path] and nothing else"
	case !isHost(u.Hostname()):
		return "its host must be an IP address or a name of A-Z a-z 0-9 . _ -, with other characters in their xn-- form"
	case strings.HasSuffix(u.Host, ":"):
		return "its port must be 1 to 65535"
	case strings.ContainsAny(path, ";") || strings.Contains(path, "//"):
		return "its path must not contain \";\" or \"//\""
	case len(path) > maxPrefixPath:
		return fmt.Sprintf("its path must not be longer than %d bytes", maxPrefixPath)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "its port must be 1 to 65535"
		}
	}
	return ""
}

// isHost reports whether s is an IP address or looks like the name of a host.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		// Some names that are in use have underscores.
		if !isLabel(strings.ReplaceAll(lowerASCII(part), "_", "x")) {
			return false
		}
	}
	return true
}

// parseViewerDomain returns the domain in lower case, after it has noted its
// faults. public is the public URL, or nil if that is faulty.
func parseViewerDomain(s string, public *url.URL, faults *configerror.Faults) string {
	if s == "" {
		return ""
	}
	// 63 bytes and a dot have to fit before it (RFC 1035, section 2.3.4).
	const maxDomain = 253 - maxLabel - 1
	domain := lowerASCII(s)
	valid := len(domain) <= maxDomain
	last := ""
	for part := range strings.SplitSeq(domain, ".") {
		valid = valid && isLabel(part)
		last = part
	}
	if !valid || strings.Trim(last, "0123456789") == "" {
		faults.Add("ViewerDomain", redact.URL(s), fmt.Sprintf("it must be a domain such as tunnels.example.com, of at most %d bytes, without scheme, port, wildcard or final dot", maxDomain))
	} else if public != nil {
		if _, ok := nameUnder(public.Hostname(), domain); ok {
			faults.Add("ViewerDomain", s, fmt.Sprintf("the host of the public URL, %s, must not be in it: every name there is a tunnel's", public.Hostname()))
		}
	}
	return domain
}

// parseTrusted parses addresses ("192.0.2.7") and CIDR prefixes ("10.0.0.0/8",
// "fd00::/8"), and "unix". Blank entries are skipped. Every entry that is none of
// these is noted as a fault.
func parseTrusted(list []string, faults *configerror.Faults) trustedProxies {
	var trusted trustedProxies
	for _, entry := range list {
		s := strings.TrimSpace(entry)
		if s == "" {
			continue
		}
		if strings.EqualFold(s, "unix") {
			trusted.unix = true
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
			if a.Zone() != "" {
				// Peers are compared without theirs (see parseAddr).
				err = errors.New("zone")
			}
		}
		if err != nil {
			faults.Add("TrustedProxies", redact.URL(s), "it must be an IP address or a CIDR prefix such as 10.0.0.0/8, without a zone, or the word unix")
			continue
		}
		// Peers are compared as plain IPv4 (see parseAddr): so are prefixes.
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		trusted.prefixes = append(trusted.prefixes, p.Masked())
	}
	return trusted
}
