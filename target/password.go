package target

import (
	"net/http"
	"strings"
	"sync/atomic"
)

// passwordWarning warns, once, that the target asks for passwords in path mode. A
// browser remembers them by origin and realm, and in path mode all tunnels of a
// service are one origin: it sends them to another tunnel that asks with the same
// realm, without asking its user. The zero value has not warned yet.
type passwordWarning struct{ given atomic.Bool }

// due reports whether it is time to warn, because of this answer to r.
func (w *passwordWarning) due(r *http.Request, answer http.Header) bool {
	return !w.given.Load() && asksForPassword(answer) && forwardedPrefix(r) != "" && !w.given.Swap(true)
}

// asksForPassword reports whether an answer's header has a challenge of the schemes
// for which browsers ask their users and remember what they say (RFC 7617, RFC 7616).
func asksForPassword(h http.Header) bool {
	for _, v := range h["Www-Authenticate"] {
		for challenge := range strings.SplitSeq(v, ",") {
			scheme, _, _ := strings.Cut(strings.TrimSpace(challenge), " ")
			if strings.EqualFold(scheme, "Basic") || strings.EqualFold(scheme, "Digest") {
				return true
			}
		}
	}
	return false
}
