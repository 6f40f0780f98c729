package configerror

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	hopRule       = "it is about one connection (RFC 9110, section 7.6.1), so every hop sets its own: leave it out"
	framingRule   = "it says how the message is sent, which follows from the message: leave it out"
	handshakeRule = "it belongs to the handshake of one websocket: leave it out"
	privateRule   = "names that begin with X-Websocktunnel- are for service and tunnel client: choose another name"
)

// headerRules are the headers that no configuration may touch, with the reason and
// what to do.
var headerRules = map[string]string{
	"Connection":                hopRule,
	"Http2-Settings":            hopRule,
	"Keep-Alive":                hopRule,
	"Proxy-Authenticate":        hopRule,
	"Proxy-Authentication-Info": hopRule,
	"Proxy-Authorization":       hopRule,
	"Proxy-Connection":          hopRule,
	"Te":                        hopRule,
	"Upgrade":                   hopRule,
	"Content-Length":            framingRule,
	"Expect":                    framingRule,
	"Trailer":                   framingRule,
	"Transfer-Encoding":         framingRule,
	"Sec-Websocket-Accept":      handshakeRule,
	"Sec-Websocket-Key":         handshakeRule,
	"Sec-Websocket-Version":     handshakeRule,
}

// AddHeader notes a fault for each header in h that a configuration may not set,
// or whose value HTTP cannot carry. Values do not show. own has further names, in
// canonical form, with their rules.
func (f *Faults) AddHeader(field string, h http.Header, own map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		rule := headerRule(name, own)
		if rule == "" && slices.ContainsFunc(h[name], func(v string) bool { return !httpguts.ValidHeaderFieldValue(v) }) {
			rule = "its value has a line break or another control character: take that out"
		}
		f.addName(field, name, rule)
	}
}

// AddHeaderNames is AddHeader for names without values.
func (f *Faults) AddHeaderNames(field string, names []string, own map[string]string) {
	for _, name := range names {
		f.addName(field, name, headerRule(name, own))
	}
}

func (f *Faults) addName(field, name, rule string) {
	switch {
	case rule == "":
	case name == "":
		f.Add(field, "", "has a header without a name: "+rule)
	default:
		f.Add(field, name, rule)
	}
}

func headerRule(name string, own map[string]string) string {
	if !httpguts.ValidHeaderFieldName(name) {
		return "the name of a header has letters, digits and hyphens, such as X-Name"
	}
	name = http.CanonicalHeaderKey(name)
	switch {
	case own[name] != "":
		return own[name]
	case strings.HasPrefix(name, wire.HeaderPrefix):
		return privateRule
	}
	return headerRules[name]
}
