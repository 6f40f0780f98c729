package admin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
)

const (
	// HeaderChange has to be on every request that changes something, with any
	// value. A page of another origin cannot send it without asking first, and
	// that is refused.
	HeaderChange = "X-Websocktunnel-Admin"

	cookieName = "websocktunnel-admin"

	// loginTime is how long a login in a browser lasts.
	loginTime = 12 * time.Hour

	// How many wrong tokens leave a line in the log.
	linesPerSecond, linesBurst = 1, 20
)

// guard decides who may ask for what.
type guard struct {
	access atomic.Pointer[access]
	log    zerolog.Logger
	lines  *rate.Limiter
}

// access is what callers must know.
type access struct {
	token string
	hosts []string
	key   []byte // signs cookies; a restart and another token end all logins
}

func newGuard(cfg Config) *guard {
	g := &guard{log: cfg.Logger, lines: rate.NewLimiter(linesPerSecond, linesBurst)}
	g.setAccess(cfg.Token, cfg.Hosts)
	return g
}

// setAccess is not for concurrent use with itself.
func (g *guard) setAccess(token string, hosts []string) {
	a := &access{token: token, hosts: hosts}
	if now := g.access.Load(); now != nil && now.token == token {
		a.key = now.key
	} else {
		a.key = make([]byte, sha256.Size)
		rand.Read(a.key)
	}
	g.access.Store(a)
}

// open are the paths that everybody may ask for.
var open = []string{"/healthz", "/readyz"}

// around returns next behind the guard.
func (g *guard) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if slices.Contains(open, r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		if reason := g.foreign(r); reason != "" {
			problem(w, http.StatusForbidden, reason)
			return
		}
		if r.URL.Path == "/login" && r.Method == http.MethodPost && g.access.Load().token != "" {
			next.ServeHTTP(w, r) // which looks at the token in the form
			return
		}
		byCookie, ok := g.knows(w, r)
		if !ok {
			return
		}
		if changes(r.Method) {
			switch {
			case r.Header.Get(HeaderChange) == "":
				problem(w, http.StatusForbidden, "requests that change something need the header "+HeaderChange)
				return
			case byCookie && r.Header.Get("Origin") == "":
				problem(w, http.StatusForbidden, "a browser's request that changes something needs an Origin")
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// setHeaders sets what is the same for all answers.
func setHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer, browsers send "Origin: null"
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "+
		"form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
}

// changes reports whether requests by this method change something.
func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead
}

// foreign returns why r may be a page's of another origin, or "" if it is not.
func (g *guard) foreign(r *http.Request) string {
	if !g.ownHost(r.Host) {
		// A name that leads here today may have led elsewhere when a page was
		// loaded under it (DNS rebinding).
		return "unknown host name: use localhost or an IP address, or add the name to ADMIN_HOSTS"
	}
	if origins := r.Header["Origin"]; len(origins) > 0 && !sameOrigin(origins, r.Host) {
		return "requests from pages of other origins are refused"
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return ""
	}
	if r.Method == http.MethodGet && r.Header.Get("Sec-Fetch-Mode") == "navigate" && r.Header.Get("Sec-Fetch-Dest") == "document" {
		return "" // somebody has followed a link
	}
	return "requests from pages of other origins are refused"
}

// ownHost reports whether a Host header names this listener. An IP address does:
// no page can have been loaded from elsewhere under it.
func (g *guard) ownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") ||
		slices.ContainsFunc(g.access.Load().hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// sameOrigin reports whether the header Origin names host, by http or, where a
// proxy in front ends TLS, https.
func sameOrigin(origins []string, host string) bool {
	if len(origins) != 1 {
		return false
	}
	u, err := url.Parse(origins[0])
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.User == nil && strings.EqualFold(u.Host, host) && host != ""
}

// knows reports whether r has the right credentials, and whether these are a
// browser's cookie. If not, it has answered.
func (g *guard) knows(w http.ResponseWriter, r *http.Request) (byCookie, ok bool) {
	if g.access.Load().token == "" {
		return false, true
	}
	given := r.Header["Authorization"]
	if len(given) == 0 {
		if c, err := r.Cookie(cookieName); err == nil && g.checkCookie(c.Value, time.Now()) {
			return true, true
		}
		g.challenge(w, r, http.StatusUnauthorized, "a token is required: Authorization: Bearer <ADMIN_TOKEN>")
		return false, false
	}
	scheme, token, _ := strings.Cut(given[0], " ")
	if len(given) == 1 && strings.EqualFold(scheme, "Bearer") && g.rightToken(strings.TrimSpace(token)) {
		return false, true
	}
	g.refuse(w, r)
	return false, false
}

// rightToken reports whether token is the one, in a time that says nothing of it.
func (g *guard) rightToken(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(g.access.Load().token))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// refuse answers wrong credentials.
func (g *guard) refuse(w http.ResponseWriter, r *http.Request) {
	if g.lines.Allow() {
		g.log.Warn().Str(logevent.Field, logevent.AdminRefused).Str("remote", r.RemoteAddr).Msg("wrong token on the admin listener")
	}
	g.challenge(w, r, http.StatusUnauthorized, "wrong token")
}

// challenge asks for credentials: browsers by a form.
func (g *guard) challenge(w http.ResponseWriter, r *http.Request, status int, text string) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	if (r.Method == http.MethodGet || r.URL.Path == "/login") && strings.Contains(r.Header.Get("Accept"), "text/html") {
		loginForm(w, status, r.URL.Path == "/login")
		return
	}
	problem(w, status, text)
}

// cookie returns the value of a cookie that is good until then. It does not hold
// the token: browsers send cookies to every port of a host.
func (g *guard) cookie(until time.Time) string {
	expires := strconv.FormatInt(until.Unix(), 10)
	mac := hmac.New(sha256.New, g.access.Load().key)
	mac.Write([]byte(expires))
	return expires + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// checkCookie reports whether value is of a cookie that is good now.
func (g *guard) checkCookie(value string, now time.Time) bool {
	text, _, _ := strings.Cut(value, ".")
	expires, err := strconv.ParseInt(text, 10, 64)
	return err == nil && now.Unix() < expires && hmac.Equal([]byte(value), []byte(g.cookie(time.Unix(expires, 0))))
}
