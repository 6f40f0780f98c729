package server

import (
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// unencodable returns the answer to a request that cannot be carried into a
// tunnel as it is, or nil. What the peer rejects there would end the tunnel.
func unencodable(r *http.Request) *failure {
	if r.Host != "" && !validHost(r.Host) || !printable(strings.Join(r.Header["Upgrade"], ",")) ||
		!httpguts.ValidHeaderFieldName(r.Method) { // both are tokens
		return failUnencodable
	}
	if tooManyFields(r.Header, r.Trailer) {
		return failTooManyFields
	}
	if r.ProtoMajor == 2 && !plainLength(r) {
		return failBadBody
	}
	return nil
}

// plainLength reports whether an HTTP/2 request names the length of its body at
// most once, and properly. net/http looks after that for HTTP/1, x/net takes the
// first one, and a nonsensical one for zero.
func plainLength(r *http.Request) bool {
	length := r.Header["Content-Length"]
	switch {
	case len(length) == 0:
		return true
	case len(length) > 1 || !digits(length[0]):
		return false
	case r.ContentLength == 0: // also if there is no body, or the number is too large
		return strings.Trim(length[0], "0") == ""
	}
	return true
}

// validHost reports whether host can be carried as :authority. What the peer
// rejects there would end the tunnel.
func validHost(host string) bool {
	return httpguts.ValidHostHeader(host) && !strings.Contains(host, "@")
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// upgradeList returns what an Upgrade header of several lines offers in one,
// without h2c: that is about this hop (RFC 9113, section 3.1, has abolished it),
// and curl --http2 sends it on every request. A target that chose it would go on
// with requests that nobody here sees.
func upgradeList(lines []string) string {
	var all []string
	for _, line := range lines {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.Trim(p, " \t"); p != "" && !strings.EqualFold(p, "h2c") {
				all = append(all, p)
			}
		}
	}
	return strings.Join(all, ", ")
}

// targetURL returns a URL that x/net puts into :path byte for byte.
func targetURL(host string, rt route) *url.URL {
	path := rt.upstreamPath()
	if strings.HasPrefix(path, "//") {
		// RequestURI takes this for an authority and puts the scheme before it,
		// and x/net takes scheme and host away again.
		path = "//" + host + path
	}
	return &url.URL{
		Scheme: "http", Host: host, Opaque: path,
		RawQuery: rt.query, ForceQuery: rt.hasQuery && rt.query == "",
	}
}
