package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// asking is a target that asks for a password, for a realm that anybody can name.
func asking() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _, ok := r.BasicAuth()
		if !ok && r.URL.Path == "/asks" {
			w.Header().Set("WWW-Authenticate", `Basic realm="one for all"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, `<!doctype html><title>asking</title><link rel="icon" href="data:,"><body>%s`, user)
	})
}

// TestPasswords: a browser that knows the password for one tunnel sends it to another
// one that asks with the same realm, in path mode. Hosts of their own protect from
// that. Path mode is tried to see that the test sees it.
func TestPasswords(t *testing.T) {
	for name, domain := range map[string]string{"path mode": "", "host mode": ownDomain} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			passed(t, "passwords of browsers, "+name, "https")
			target := httptest.NewServer(asking())
			t.Cleanup(target.Close)
			s := harness.Start(t, harness.Options{TLS: true, Server: server.Config{ViewerDomain: domain}})
			a := s.Target("a", target.URL, tunnelclient.ProxyOptions{})
			b := s.Target("b", target.URL, tunnelclient.ProxyOptions{})
			tb := newTab(t)
			tb.open(strings.Replace(a, "://", "://alice:secret@", 1) + "/asks")
			tb.open(b + "/")
			// It waits for ever for the user, who is not there.
			got := js[string](tb, `return fetch('asks', { signal: AbortSignal.timeout(5000) }).then((r) => r.text(), (e) => e.name)`)
			if sent := strings.Contains(got, "alice"); sent != (domain == "") {
				t.Errorf("b's target gets the password for a: %t (%q)", sent, got)
			}
		})
	}
}
