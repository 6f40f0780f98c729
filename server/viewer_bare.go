package server

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A request for the bare path of a tunnel, "/<id>" without a slash behind it, is
// carried as one for "/". To a browser it is not the same: what it gets there is
// outside of "/<id>/", so that relative links of a page lead out of the tunnel,
// and the scope of a service worker is all tunnels.

// bare reports whether rt is the bare path of a tunnel.
func (rt route) bare() bool { return rt.kind == routeTunnel && !rt.ownHost && rt.rest == "" }

// passesBarePath reports whether a registration with header h asks for
// navigations to the bare path as well.
func passesBarePath(h http.Header) bool { return h.Get(wire.HeaderBarePath) == wire.BarePathPass }

// answerBare answers a request for the bare path that must not reach the target,
// and reports whether it has. Nothing has been carried into the tunnel then.
func (x *exchange) answerBare() bool {
	switch {
	case !x.route.bare():
		return false
	case isWorkerScript(x.in.Header):
		x.fail(failWorkerScope)
		return true
	case !isNavigation(x.in):
		return false
	}
	switch via, err := x.carrier(x.in.Context()); via := via.(type) {
	case *session:
		if via.passesBarePath {
			return false
		}
	case *nodeHop:
		x.asksBare = true // the node that has the session knows
		return false
	default:
		x.fail(err)
		return true
	}
	x.redirectBare()
	return true
}

// redirectBare sends a browser from the bare path to the one with a slash.
func (x *exchange) redirectBare() {
	location := x.srv.cfg.publicURL.Path + "/" + x.route.id + "/"
	if x.route.hasQuery {
		location += "?" + escapeBeyondASCII(x.route.query)
	}
	h := x.w.Header()
	h.Set("Location", location)
	h.Set("Vary", "Sec-Fetch-Mode, Accept")
	h.Set("Content-Length", "0")
	x.w.WriteHeader(http.StatusTemporaryRedirect)
}

// isWorkerScript reports whether h is that of a browser's request for the script
// of a service worker.
func isWorkerScript(h http.Header) bool {
	return strings.EqualFold(h.Get("Service-Worker"), "script") || h.Get("Sec-Fetch-Dest") == "serviceworker"
}

// isNavigation reports whether r is a browser's request for a page to show. Those
// without Fetch Metadata are known by what they prefer.
func isNavigation(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || upgradeList(r.Header["Upgrade"]) != "" {
		return false
	}
	if mode := r.Header.Get("Sec-Fetch-Mode"); mode != "" {
		return mode == "navigate"
	}
	return r.Header.Get("Sec-Fetch-Site") == "" && r.Header.Get("Sec-Fetch-Dest") == "" && prefersHTML(r.Header["Accept"])
}

// prefersHTML reports whether, by an Accept header, no type is more welcome than
// HTML, and those that are as welcome stand behind it.
func prefersHTML(accept []string) bool {
	best, html := 0.0, false
	for typ, q := range acceptedTypes(accept) {
		if q > best {
			best, html = q, isHTML(typ)
		}
	}
	return html
}

// escapeBeyondASCII escapes what a header that holds a URL cannot have.
func escapeBeyondASCII(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
