package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// originWide are the headers that speak for a whole origin, except for
// Clear-Site-Data, which the browser shows to no script.
var originWide = []string{
	"service-worker-allowed", "alt-svc", "strict-transport-security", "nel", "report-to", "reporting-endpoints",
	"public-key-pins", "origin-agent-cluster", "accept-ch", "critical-ch", "use-as-dictionary", "no-vary-search",
	"speculation-rules", "set-login", "shared-storage-write", "secure-session-registration", "activate-storage-access", "origin-trial",
}

// isolatedSite tries what one tunnel should not be able to do to another of
// the same origin.
func isolatedSite() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", blank)
	mux.HandleFunc("/set", func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range []string{
			"root=1; Path=/", "default=1", "deep=1; Path=/deep/", "domain=1; Path=/; Domain=127.0.0.1",
			"other=1; Path=/b/", "strict=1; Path=/; SameSite=Strict; HttpOnly",
		} {
			w.Header().Add("Set-Cookie", c)
		}
	})
	mux.HandleFunc("/cookies", func(w http.ResponseWriter, r *http.Request) {
		var names []string
		for _, c := range r.Cookies() {
			names = append(names, c.Name)
		}
		fmt.Fprint(w, strings.Join(names, " "))
	})
	mux.HandleFunc("/deep/cookies", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Contains(r.Header.Get("Cookie"), "deep=1"))
	})
	mux.HandleFunc("/sw.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Header().Set("Service-Worker-Allowed", "/")
		fmt.Fprint(w, "// nothing")
	})
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range originWide {
			w.Header().Set(name, "x")
		}
	})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			w.Header().Set("Accept-CH", r.URL.RawQuery)
		}
		blank(w, r)
	})
	mux.HandleFunc("/model", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Header["Sec-Ch-Ua-Model"])) })
	mux.HandleFunc("/dictionary", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Use-As-Dictionary", `match="/*"`)
		w.Header().Set("Cache-Control", "max-age=3600")
		blank(w, r)
	})
	mux.HandleFunc("/available", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, len(r.Header["Available-Dictionary"])) })
	mux.HandleFunc("/clear", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Clear-Site-Data", `"cookies", "storage"`)
	})
	return mux
}

// TestIsolation: two tunnels of one origin. To see that it is the service that
// keeps them apart, the same is done with that switched off.
func TestIsolation(t *testing.T) {
	for scheme, want := range schemes {
		for name, off := range map[string]bool{"on": false, "off": true} {
			t.Run(scheme+" "+name, func(t *testing.T) {
				t.Parallel()
				passed(t, "isolation of cookies, storage and workers, "+name, scheme)
				target := httptest.NewServer(isolatedSite())
				t.Cleanup(target.Close)
				s := harness.Start(t, harness.Options{TLS: want.tls, Server: server.Config{DisablePathIsolation: off}})
				a := s.Target("a", target.URL, tunnelclient.ProxyOptions{})
				b := s.Target("b", target.URL, tunnelclient.ProxyOptions{})

				t.Run("cookies", func(t *testing.T) {
					tb := newTab(t)
					cookies := func(url string) string {
						tb.open(url)
						return js[string](tb, `return (await fetch(location.pathname.replace(/\/?$/, '/cookies'))).text()`)
					}
					tb.open(a + "/")
					js[bool](tb, `return (await fetch('set')).ok`)
					wantA, wantB := "default root domain strict", ""
					if off {
						wantB = "root domain strict other"
					}
					if got := cookies(a + "/"); !sameWords(got, wantA) {
						t.Errorf("a has %q, want %q", got, wantA)
					}
					if got := cookies(b + "/"); !sameWords(got, wantB) {
						t.Errorf("b has %q, want %q", got, wantB)
					}
					if got := js[string](tb, `return document.cookie`); off == (got == "") {
						t.Errorf("a script of b sees %q", got)
					}
					if !off {
						tb.open(a + "/")
						if !js[bool](tb, `return (await fetch('deep/cookies')).json()`) {
							t.Error("the cookie of a's path /deep/ does not come back")
						}
					}
				})

				t.Run("headers", func(t *testing.T) {
					tb := newTab(t)
					tb.open(a + "/")
					for _, name := range originWide {
						if got := js[bool](tb, `return (await fetch('headers')).headers.has(args[0])`, name); got != off {
							t.Errorf("the browser sees %s: %t", name, got)
						}
					}
				})

				t.Run("service worker", func(t *testing.T) {
					tb := newTab(t)
					tb.open(a + "/")
					register := `return navigator.serviceWorker.register('sw.js', { scope: args[0] })
						.then((r) => new URL(r.scope).pathname, (error) => error.name)`
					if got := js[string](tb, register, "/a/"); got != "/a/" {
						t.Errorf("a worker for /a/: %s", got)
					}
					for _, scope := range []string{"/", "/b/"} {
						want := "SecurityError"
						if off {
							want = scope
						}
						if got := js[string](tb, register, scope); got != want {
							t.Errorf("a worker of a for %s: %s, want %s", scope, got, want)
						}
					}
				})

				t.Run("client hints", func(t *testing.T) {
					tb := newTab(t)
					tb.open(a + "/hints?Sec-CH-UA-Model")
					tb.open(b + "/hints")
					// To tell more about itself, the browser wants a secure context, which 127.0.0.1 is.
					if got := js[int](tb, `return (await fetch('model')).json()`); (got == 1) != off {
						t.Errorf("after a's Accept-CH, b's target gets %d hints", got)
					}
				})

				t.Run("dictionary", func(t *testing.T) {
					tb := newTab(t)
					tb.open(a + "/")
					js[string](tb, `return (await fetch('dictionary')).text()`)
					tb.open(b + "/")
					available := func() bool {
						return js[int](tb, `return (await fetch('available', { cache: 'no-store' })).json()`) == 1
					}
					if !off {
						if available() {
							t.Error("b's target is offered a's dictionary")
						}
					} else if !tunneltest.Poll(patience, available) { // it is kept a moment later
						t.Error("b's target is not offered a's dictionary")
					}
				})

				t.Run("storage", func(t *testing.T) {
					tb := newTab(t)
					tb.open(a + "/")
					js[bool](tb, `localStorage.kept = 'yes'; return true`)
					tb.open(b + "/")
					js[bool](tb, `return (await fetch('clear')).ok`)
					tb.open(a + "/")
					if kept := js[bool](tb, `return localStorage.kept === 'yes'`); kept == off {
						t.Errorf("after b's Clear-Site-Data, a's storage is there: %t", kept)
					}
				})
			})
		}
	}
}

func sameWords(a, b string) bool {
	x, y := strings.Fields(a), strings.Fields(b)
	if len(x) != len(y) {
		return false
	}
	for _, word := range x {
		if !strings.Contains(" "+b+" ", " "+word+" ") {
			return false
		}
	}
	return true
}
