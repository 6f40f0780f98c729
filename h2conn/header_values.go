package h2conn

import (
	"net/http"
	"slices"
	"strings"
)

// Go's HTTP/2 sends and takes values that other libraries end a stream or a
// connection for: those that begin or end with white space (RFC 9113, section
// 8.2.1), and empty fields of a cookie, of which x/net makes one for each ";".

const outerSpace = " \t"

// isTidy reports whether tidy would change nothing in h.
func isTidy(h http.Header) bool {
	for k, vv := range h {
		for _, v := range vv {
			if strings.Trim(v, outerSpace) != v || k == "Cookie" && !isTidyCookie(v) {
				return false
			}
		}
	}
	return true
}

func isTidyCookie(v string) bool {
	for crumb := range strings.SplitSeq(v, ";") {
		crumb = strings.TrimPrefix(crumb, " ")
		if crumb == "" || strings.Trim(crumb, outerSpace) != crumb {
			return false
		}
	}
	return true
}

// tidy removes outer white space from the values of h, and empty fields from
// cookies. It changes the map and no list of values.
func tidy(h http.Header) {
	for k, vv := range h {
		shared := true
		for i, v := range vv {
			t := strings.Trim(v, outerSpace)
			if k == "Cookie" && !isTidyCookie(t) {
				t = tidyCookie(t)
			}
			if t == v {
				continue
			}
			if shared {
				vv, shared = slices.Clone(vv), false
				h[k] = vv
			}
			vv[i] = t
		}
	}
}

func tidyCookie(v string) string {
	var crumbs []string
	for crumb := range strings.SplitSeq(v, ";") {
		if crumb = strings.Trim(crumb, outerSpace); crumb != "" {
			crumbs = append(crumbs, crumb)
		}
	}
	return strings.Join(crumbs, "; ")
}

// cleanTrailers removes from h, the header map of an answer that is over, the
// trailers that do not cross, and tidies the others.
func cleanTrailers(h http.Header) {
	if len(h["Trailer"]) == 0 && !hasTrailerKeys(h) {
		return
	}
	deleteUncarried(h)
	for _, k := range uncarried {
		delete(h, http.TrailerPrefix+k)
	}
	tidy(h)
}

func hasTrailerKeys(h http.Header) bool {
	for k := range h {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			return true
		}
	}
	return false
}
