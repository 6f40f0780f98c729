package wire

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// MaxIDLength is the length in bytes of the longest client id.
const MaxIDLength = 256

// ReservedIDs are path segments that the service answers itself.
var ReservedIDs = [...]string{"__heartbeat__", "__lbheartbeat__", "__version__"}

// Reserved reports whether id is one of [ReservedIDs].
func Reserved(id string) bool {
	for _, r := range ReservedIDs {
		if id == r {
			return true
		}
	}
	return false
}

// CheckID returns nil if id may be used as a client id, and otherwise an error
// that names the rule it breaks: see [IDRule].
func CheckID(id string) error {
	rule := IDRule(id)
	switch {
	case rule == "":
		return nil
	case id == "" || len(id) > MaxIDLength:
		return errors.New("client id " + rule)
	}
	return fmt.Errorf("client id %q %s", id, rule)
}

// IDRule returns "" if id may be used as a client id, and otherwise the rule
// that it breaks, in words that follow the id. An id is 1 to [MaxIDLength] bytes
// of A-Z a-z 0-9 _ ~ . % -, each % followed by two hexadecimal digits, and
// neither "." nor ".." in any percent-spelling, because browsers normalise
// those away (WHATWG URL, "single-dot" and "double-dot" path segments), nor
// one of [ReservedIDs]. Ids are compared byte for byte; nothing is decoded.
func IDRule(id string) string {
	if id == "" {
		return "is empty: it must have 1 to 256 characters"
	}
	if len(id) > MaxIDLength {
		return fmt.Sprintf("has %d characters: it must have 1 to %d", len(id), MaxIDLength)
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '_', c == '~', c == '.', c == '-':
		case c == '%':
			if i+2 >= len(id) || !isHex(id[i+1]) || !isHex(id[i+2]) {
				return "has a malformed escape: % must be followed by two hexadecimal digits"
			}
		default:
			return "has a character outside A-Z a-z 0-9 _ ~ . % -"
		}
	}
	switch decodedDots.Replace(id) {
	case ".", "..":
		return "is a dot segment, which browsers remove from paths"
	}
	if Reserved(id) {
		return "is reserved for the service"
	}
	return ""
}

// hostFiles are patterns ([path.Match]), in lower case, of the files at the root
// of a host that browsers, crawlers and the verifiers of its owner ask for: they
// speak for the whole host.
var hostFiles = [...]string{
	// Crawlers and feeds.
	"robots.txt", "sitemap*.xml", "sitemap*.txt", "sitemap*.gz", "humans.txt", "llms*.txt", "ai.txt", "ads.txt", "app-ads.txt", "sellers.json",
	// Browsers, phones and plug-ins.
	"favicon.*", "apple-touch-icon*", "apple-app-site-association", "browserconfig.xml", "crossdomain.xml", "clientaccesspolicy.xml",
	// Contacts and policies that belong into /.well-known.
	"security.txt", "trust.txt", "change-password",
	// Proofs of who owns the host.
	"google*.html", "bingsiteauth.xml", "livesearchsiteauth.xml", "yandex_*.html", "yandex_*.txt", "baidu_verify_*.html", "naver*.html",
	"pinterest-*.html", "mp_verify_*.txt", "ww_verify_*.txt", "ms????????.txt", "keybase.txt", "loaderio-*.txt", "zoomverify*.html",
	"atlassian-domain-verification.html", "mailru-verification*.html", "adobe-idp-site-verification.html",
}

// SpeaksForHost reports whether, where tunnels are reached by path, "/" and id
// is what a whole host is known by: a name that begins with a dot, such as
// .well-known, by which certificates are issued, or a file such as robots.txt.
// Case and escapes do not count: something in front may undo them. An id must
// pass [CheckID] to be asked about.
func SpeaksForHost(id string) bool {
	name, err := url.PathUnescape(id)
	if err != nil {
		return false
	}
	name = strings.ToLower(name)
	if strings.HasPrefix(name, ".") {
		return true
	}
	for _, pattern := range hostFiles {
		if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// decodedDots is made once: every request's id goes through it.
var decodedDots = strings.NewReplacer("%2e", ".", "%2E", ".")

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// NormalID returns id as clients that normalise URLs ask for it (RFC 3986, section
// 6.2.2): escapes in capitals, and none for characters that need none. An id that is
// something else cannot be reached by such a client. id must be valid.
func NormalID(id string) string {
	if !strings.Contains(id, "%") {
		return id
	}
	var b strings.Builder
	for i := 0; i < len(id); i++ {
		if id[i] != '%' {
			b.WriteByte(id[i])
			continue
		}
		escape := strings.ToUpper(id[i : i+3])
		i += 2
		if c, err := url.PathUnescape(escape); err == nil && IDRule("x"+c) == "" && c != "%" {
			b.WriteString(c)
		} else {
			b.WriteString(escape)
		}
	}
	return b.String()
}
