package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// rootSite is a site that takes itself for the only one on its host: its paths
// are absolute, its cookies are for /, its service worker is for everything.
func rootSite() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><title>root</title><link rel="icon" href="data:,"><script src="/assets/app.js"></script>`)
	})
	mux.HandleFunc("/assets/app.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, "var loaded = true")
	})
	mux.HandleFunc("/__heartbeat__", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the target's own") })
	mux.HandleFunc("/set", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := strings.Cut(r.Host, ":")
		_, domain, _ := strings.Cut(host, ".")
		for _, c := range []string{
			"root=1; Path=/", "default=1", "deep=1; Path=/deep/", "domain=1; Path=/; Domain=" + domain,
			"own=1; Path=/; Domain=" + host, "strict=1; Path=/; SameSite=Strict; HttpOnly", "__Host-own=1; Path=/; Secure",
		} {
			w.Header().Add("Set-Cookie", c)
		}
	})
	mux.HandleFunc("/cookies", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, cookieNames(r)) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/cookies", http.StatusFound) })
	mux.HandleFunc("/moved-url", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.Header.Get("X-Forwarded-Proto")+"://"+r.Host+"/cookies", http.StatusFound)
	})
	mux.HandleFunc("/deep/sw.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		w.Header().Set("Service-Worker-Allowed", "/")
		fmt.Fprint(w, `
			oninstall = () => skipWaiting();
			onactivate = (e) => e.waitUntil(clients.claim());
			onfetch = (e) => { if (new URL(e.request.url).pathname === '/caught') e.respondWith(new Response('by the worker')) };`)
	})
	mux.HandleFunc("/clear", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Clear-Site-Data", `"`+r.URL.RawQuery+`"`)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil) // which wants Origin to be the Host
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, p, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, p) != nil {
				return
			}
		}
	})
	return mux
}

func cookieNames(r *http.Request) string {
	var names []string
	for _, c := range r.Cookies() {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// TestHosts: two tunnels, each on its own host, one of which has an id that is
// no host name. What hosts alone do not separate, and the Public Suffix List
// does, is told by listed.
func TestHosts(t *testing.T) {
	for _, domain := range []string{ownDomain, publicSuffix} {
		for scheme, want := range schemes {
			listed := domain == publicSuffix
			if listed && !want.tls {
				continue // the browser insists on https for that domain
			}
			t.Run(domain+" "+scheme, func(t *testing.T) {
				t.Parallel()
				exchange := "tunnels on hosts of their own"
				if listed {
					exchange += ", the domain in the Public Suffix List"
				}
				passed(t, exchange, scheme)
				seen := make(chan string, 1) // the cookies of a /probe
				site := rootSite()
				target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/probe" {
						seen <- cookieNames(r)
						return
					}
					site.ServeHTTP(w, r)
				}))
				t.Cleanup(target.Close)
				s := harness.Start(t, harness.Options{TLS: want.tls, Server: server.Config{ViewerDomain: domain}})
				a := s.Target("a", target.URL, tunnelclient.ProxyOptions{})
				b := s.Target("Team%2FB", target.URL, tunnelclient.ProxyOptions{})
				for _, base := range []string{a, b} {
					if u, err := url.Parse(base); err != nil || u.Scheme != scheme || !strings.HasSuffix(u.Hostname(), "."+domain) || u.Path != "" {
						t.Fatalf("client URL %q", base)
					}
				}
				testHosts(t, a, b, s.URL, seen, want.tls, listed)
			})
		}
	}
}

func testHosts(t *testing.T, a, b, service string, seen <-chan string, secure, listed bool) {
	get := func(tb *tab, path string) string {
		tb.t.Helper()
		return js[string](tb, `return (await fetch(args[0])).text()`, path)
	}
	all := "root default domain own strict"
	if secure {
		all += " __Host-own"
	}

	t.Run("paths", func(t *testing.T) {
		tb := newTab(t)
		tb.open(b + "/some/page")
		if !js[bool](tb, `return loaded`) {
			t.Error("the script with an absolute path was not loaded")
		}
		if got := get(tb, "/__heartbeat__"); got != "the target's own" {
			t.Errorf("/__heartbeat__: %q", got)
		}
		for _, path := range []string{"/moved", "/moved-url"} {
			if got := js[string](tb, `return (await fetch(args[0])).url`, path); got != b+"/cookies" {
				t.Errorf("%s leads to %s", path, got)
			}
		}
		tb.open(b + "/moved")
		if got := js[string](tb, `return location.href`); got != b+"/cookies" {
			t.Errorf("the page is %s", got)
		}
	})

	t.Run("cookies", func(t *testing.T) {
		tb := newTab(t)
		tb.open(a + "/")
		js[bool](tb, `return (await fetch('/set')).ok`)
		if got := get(tb, "/cookies"); !sameWords(got, all) {
			t.Errorf("a has %q, want %q", got, all)
		}
		tb.open(b + "/")
		if got := get(tb, "/cookies"); got != "" {
			t.Errorf("b has %q", got)
		}
		tb.open(service + "/a/") // by path, on the service's host
		if got := get(tb, "/a/cookies"); got != "" {
			t.Errorf("by path a has %q", got)
		}
	})

	t.Run("cookies for the domain from scripts", func(t *testing.T) {
		tb := newTab(t)
		tb.open(a + "/")
		js[bool](tb, `document.cookie = 'tossed=1; Path=/; Domain=' + location.hostname.replace(/^[^.]+\./, ''); return true`)
		tb.open(b + "/")
		if got := get(tb, "/cookies"); (got == "tossed") == listed {
			t.Errorf("b has %q", got)
		}
	})

	t.Run("requests across", func(t *testing.T) {
		tb := newTab(t)
		tb.open(b + "/")
		js[bool](tb, `return (await fetch('/set')).ok`)
		tb.open(a + "/")
		if got := js[string](tb, `return fetch(args[0]).then((r) => r.text(), (e) => e.name)`, b+"/"); got != "TypeError" {
			t.Errorf("a page of a reads from b: %s", got)
		}
		js[bool](tb, `await fetch(args[0], { mode: 'no-cors', credentials: 'include' }); return true`, b+"/probe")
		if got := <-seen; strings.Contains(got, "strict") == listed {
			t.Errorf("a page of a sends b's cookies %q", got)
		}
	})

	t.Run("storage", func(t *testing.T) {
		tb := newTab(t)
		tb.open(a + "/")
		js[bool](tb, `localStorage.kept = 'yes'; return true`)
		tb.open(b + "/")
		if js[bool](tb, `return localStorage.kept === 'yes'`) {
			t.Error("b reads a's storage")
		}
		js[bool](tb, `localStorage.own = 'yes'; return (await fetch('/clear?storage')).ok`)
		if kept := js[bool](tb, `return localStorage.own === 'yes'`); kept == secure { // the header counts in secure contexts
			t.Errorf("after its Clear-Site-Data, b's own storage is there: %t", kept)
		}
		tb.open(a + "/")
		if !js[bool](tb, `return localStorage.kept === 'yes'`) {
			t.Error("b's Clear-Site-Data has taken a's storage")
		}
	})

	t.Run("websocket", func(t *testing.T) {
		tb := newTab(t)
		tb.open(b + "/")
		if got := js[string](tb, wsScript+`const ws = await open('/ws'); ws.send('over there'); return message(ws)`); got != "over there" {
			t.Errorf("got %q", got)
		}
		if _, err := tryJS[bool](tb, wsScript+`await open(args[0]); return true`, a+"/ws"); err == nil {
			t.Error("a page of b has opened a websocket of a, which checks Origin")
		}
	})

	if !secure {
		return // no secure context: no Clear-Site-Data, no workers
	}
	t.Run("clearing of cookies", func(t *testing.T) {
		tb := newTab(t)
		tb.open(a + "/")
		js[bool](tb, `return (await fetch('/set')).ok`)
		tb.open(b + "/")
		js[bool](tb, `return (await fetch('/clear?cookies')).ok`)
		tb.open(a + "/")
		if got := get(tb, "/cookies"); sameWords(got, all) != listed {
			t.Errorf("after b's Clear-Site-Data, a has %q", got)
		}
	})

	t.Run("service worker", func(t *testing.T) {
		tb := newTab(t)
		tb.open(a + "/")
		caught := `const r = await fetch('/caught'); return r.text()`
		if got := js[string](tb, `
			const controlled = new Promise((resolve) => { navigator.serviceWorker.oncontrollerchange = resolve });
			await navigator.serviceWorker.register('/deep/sw.js', { scope: '/' });
			await controlled;
			`+caught); got != "by the worker" {
			t.Errorf("a's worker is not for all of a: %q", got)
		}
		tb.open(b + "/")
		if got := js[string](tb, caught); got == "by the worker" {
			t.Error("a's worker answers for b")
		}
	})
}
