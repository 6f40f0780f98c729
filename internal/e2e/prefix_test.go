package e2e

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestKeepPrefix: with KeepPrefix the target sees what the viewer asked for,
// the bare /id too. Frameworks redirect between that and /id/, one way or the
// other; one who saw the wrong of the two would redirect for ever.
func TestKeepPrefix(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{})
	got := make(chan string, 1)
	s.Target("a%2Fb", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.RequestURI }),
		tunnelclient.ProxyOptions{KeepPrefix: true})
	v := tunneltest.NewViewer(t)
	for _, uri := range []string{"/a%2Fb", "/a%2Fb/", "/a%2Fb?x=%zz", "/a%2Fb/?x", "/a%2Fb//", "/a%2Fb//x/../%2F", "/a%2Fb/a%2Fb"} {
		resp, err := v.Get(s.URL + uri)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if g := <-got; g != uri {
			t.Errorf("the viewer asked for %q, the target saw %q", uri, g)
		}
	}
}

// redirecting is a site with a login. Its links carry prefix(r), its redirects
// and cookies lead to where the field names say.
type redirecting struct {
	prefix   func(*http.Request) string
	absolute func(*http.Request) string // scheme and host before paths
}

func (site redirecting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	prefix := site.prefix(r)
	to := site.absolute(r) + prefix
	user := ""
	if c, err := r.Cookie("user"); err == nil {
		user = c.Value
	}
	h := w.Header()
	switch r.Method + " " + r.URL.Path {
	case "POST /login":
		h.Add("Set-Cookie", "user=ann; Path="+prefix+"/; HttpOnly")
		h.Add("Set-Cookie", "deep=1; Path="+prefix+"/deep")
		h.Add("Set-Cookie", "bare=1")
		h.Set("Location", to+"/home?welcome=/yes")
		w.WriteHeader(http.StatusSeeOther)
	case "GET /home":
		if user == "" {
			http.Redirect(w, r, to+"/login", http.StatusFound)
			return
		}
		h.Set("Content-Location", to+"/home.en")
		h.Set("Refresh", "5; url="+to+"/news")
		fmt.Fprintf(w, "%s at %s", user, r.URL)
	case "POST /things":
		h.Set("Location", to+"/things/1")
		w.WriteHeader(http.StatusCreated)
	case "GET /relative":
		h.Set("Location", "../x")
		h.Set("Refresh", "0; url=x")
		w.WriteHeader(http.StatusFound)
	default:
		http.NotFound(w, r)
	}
}

// TestRewriteRedirects: what client and service rewrite between them has the
// prefix once, whatever the target knows of it, and whether or not the service
// isolates paths.
func TestRewriteRedirects(t *testing.T) {
	none := func(*http.Request) string { return "" }
	told := func(r *http.Request) string { return r.Header.Get("X-Forwarded-Prefix") }
	for _, site := range []struct {
		name string
		redirecting
		root string // of its cookies: "/a/" is below the prefix already, and stays
	}{
		{"paths", redirecting{none, none}, "/a"},
		{"the viewer's host", redirecting{none, func(r *http.Request) string { return "http://" + r.Host }}, "/a"},
		{"the target's own host", redirecting{none, func(r *http.Request) string {
			return "http://" + strings.Replace(fmt.Sprint(r.Context().Value(http.LocalAddrContextKey)), "127.0.0.1", "localhost", 1)
		}}, "/a"},
		{"paths with the prefix", redirecting{told, none}, "/a/"},
		{"forwarded host and prefix", redirecting{told, func(r *http.Request) string {
			return r.Header.Get("X-Forwarded-Proto") + "://" + r.Header.Get("X-Forwarded-Host")
		}}, "/a/"},
	} {
		for name, off := range map[string]bool{"isolated": false, "not isolated": true} {
			t.Run(site.name+", "+name, func(t *testing.T) {
				t.Parallel()
				s := tunneltest.NewService(t, server.Config{DisablePathIsolation: off})
				base := s.Target("a", site, tunnelclient.ProxyOptions{RewriteRedirects: true}).URL
				v := tunneltest.NewViewer(t)
				v.Jar, _ = cookiejar.New(nil)
				v.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				do := func(method, path string, want map[string][]string) string {
					t.Helper()
					req, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
					if err != nil {
						t.Fatal(err)
					}
					resp, err := v.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					for k, vv := range want {
						if got := resp.Header[k]; !slices.Equal(got, vv) {
							t.Errorf("%s %s: %s is %q, want %q", method, path, k, got, vv)
						}
					}
					return tunneltest.ReadAll(t, resp)
				}
				do("GET", "/home", map[string][]string{"Location": {"/a/login"}})
				do("POST", "/login", map[string][]string{
					"Location":   {"/a/home?welcome=/yes"},
					"Set-Cookie": {"user=ann; Path=" + site.root + "; HttpOnly", "deep=1; Path=/a/deep", "bare=1"},
				})
				do("POST", "/things", map[string][]string{"Location": {"/a/things/1"}})
				do("GET", "/relative", map[string][]string{"Location": {"../x"}, "Refresh": {"0; url=x"}})
				// A browser's way: the cookie comes back.
				v.CheckRedirect = nil
				if got := do("POST", "/login", map[string][]string{
					"Content-Location": {"/a/home.en"}, "Refresh": {"5; url=/a/news"},
				}); got != "ann at /home?welcome=/yes" {
					t.Errorf("after the login: %q", got)
				}
			})
		}
	}
}
