package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	coder "github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// viewerAt returns an HTTP client of its own, with a cookie jar, for which all
// host names lead to s.
func viewerAt(t testing.TB, s *tunneltest.Service, config *tls.Config) *http.Client {
	tr := &http.Transport{
		DisableCompression: true,
		TLSClientConfig:    config,
		ForceAttemptHTTP2:  config != nil,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: tr, Jar: jar}
}

// TestHostMode: a login with redirects and cookies, streams with trailers,
// reserved paths and websockets, each tunnel on its own host: over HTTP/1.1, and
// over TLS and HTTP/2 with a wildcard certificate.
func TestHostMode(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", encrypted), func(t *testing.T) {
			cfg := server.Config{ViewerDomain: "tunnels.test", DisablePathMode: true}
			var viewerTLS *tls.Config
			if encrypted {
				cfg.TLSConfig, viewerTLS = tunneltest.ServerTLS(), tunneltest.ClientTLS()
			}
			s := tunneltest.NewService(t, cfg)
			v := viewerAt(t, s, viewerTLS)
			own := func(r *http.Request) string { return r.Header.Get("X-Forwarded-Proto") + "://" + r.Host }
			none := func(*http.Request) string { return "" }
			site := http.NewServeMux()
			site.Handle("/", redirecting{none, own})
			site.HandleFunc("/__version__", func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprintf(w, "%s of %s, prefix %q, id %q", r.RequestURI, r.Host, r.Header.Values("X-Forwarded-Prefix"), r.Header.Get("X-Websocktunnel-Id"))
			})
			site.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-Sum")
				n, _ := io.Copy(w, r.Body)
				w.Header().Set("X-Sum", fmt.Sprint(n, r.Trailer.Get("X-Sent")))
			})
			site.Handle("/ws", echoes["coder"])
			var urls []string
			for _, id := range []string{"build-42", "team%2FBuild"} {
				// These two are for path mode, and harmless here.
				urls = append(urls, s.Target(id, site, tunnelclient.ProxyOptions{KeepPrefix: true, RewriteRedirects: true}).URL)
			}
			for _, base := range urls {
				u, err := url.Parse(base)
				if err != nil || u.Path != "" || !strings.HasSuffix(u.Hostname(), ".tunnels.test") || u.Scheme != strings.SplitN(s.URL, ":", 2)[0] {
					t.Fatalf("client URL %q", base)
				}

				version, err := http.NewRequestWithContext(t.Context(), "GET", base+"/__version__?x", nil)
				if err != nil {
					t.Fatal(err)
				}
				version.Header.Set("X-Websocktunnel-Id", "the target's")
				resp, err := v.Do(version)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := tunneltest.ReadAll(t, resp), fmt.Sprintf(`/__version__?x of %s, prefix [], id "the target's"`, u.Host); got != want {
					t.Errorf("reserved path: %q, want %q", got, want)
				}
				if encrypted && resp.ProtoMajor != 2 {
					t.Errorf("%s", resp.Proto)
				}

				// The other tunnel's cookie is not sent here, so there is no
				// login yet.
				resp, err = v.Get(base + "/home")
				if err != nil {
					t.Fatal(err)
				}
				tunneltest.ReadAll(t, resp)
				if resp.StatusCode != http.StatusNotFound || resp.Request.URL.String() != base+"/login" {
					t.Errorf("before the login: %s at %s", resp.Status, resp.Request.URL)
				}
				resp, err = v.Post(base+"/login", "", nil)
				if err != nil {
					t.Fatal(err)
				}
				if got := tunneltest.ReadAll(t, resp); got != "ann at /home?welcome=/yes" || resp.Request.URL.String() != base+"/home?welcome=/yes" {
					t.Errorf("after the login: %q at %s", got, resp.Request.URL)
				}

				req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/stream", io.MultiReader(strings.NewReader("hello "), strings.NewReader("world")))
				if err != nil {
					t.Fatal(err)
				}
				req.Trailer = http.Header{"X-Sent": {"!"}}
				resp, err = v.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				if got := tunneltest.ReadAll(t, resp); got != "hello world" || resp.Trailer.Get("X-Sum") != "11!" {
					t.Errorf("stream: %q, trailers %v", got, resp.Trailer)
				}

				one := viewerAt(t, s, viewerTLS)
				one.Transport.(*http.Transport).ForceAttemptHTTP2 = false // coder/websocket speaks HTTP/1.1
				one.Jar = nil
				c, _, err := coder.Dial(t.Context(), base+"/ws", &coder.DialOptions{HTTPClient: one, HTTPHeader: http.Header{"Origin": {base}}})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Write(t.Context(), coder.MessageText, []byte("over there")); err != nil {
					t.Fatal(err)
				}
				if _, got, err := c.Read(t.Context()); err != nil || string(got) != "over there" {
					t.Errorf("websocket: %q, %v", got, err)
				}
				c.Close(coder.StatusNormalClosure, "")
				// The target sees its own host, and tells pages of others apart.
				if c, resp, err := coder.Dial(t.Context(), base+"/ws", &coder.DialOptions{HTTPClient: one, HTTPHeader: http.Header{"Origin": {"http://other.tunnels.test"}}}); err == nil {
					c.CloseNow()
					t.Error("a page of another tunnel could open a websocket")
				} else if resp == nil || resp.StatusCode != http.StatusForbidden {
					t.Errorf("a page of another tunnel: %v", err)
				}
			}

			// Each has its cookies, and neither the other's.
			for _, base := range urls {
				u, _ := url.Parse(base + "/deep")
				var names []string
				for _, c := range v.Jar.Cookies(u) {
					names = append(names, c.Name)
				}
				slices.Sort(names)
				if !slices.Equal(names, []string{"bare", "deep", "user"}) {
					t.Errorf("%s: cookies %q", u, names)
				}
			}
			u, _ := url.Parse(s.URL)
			if c := v.Jar.Cookies(u); len(c) != 0 {
				t.Errorf("the service's host has cookies: %v", c)
			}
		})
	}
}

// TestHostModeCookieDomain: a cookie for the whole viewer domain comes back to
// the tunnel that set it, and to no other.
func TestHostModeCookieDomain(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{ViewerDomain: "tunnels.test"})
	v := viewerAt(t, s, nil)
	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/set" {
			w.Header().Add("Set-Cookie", "wide=1; Path=/; Domain=tunnels.test")
			return
		}
		io.WriteString(w, r.Header.Get("Cookie"))
	})
	a, b := s.Target("a", site, tunnelclient.ProxyOptions{}).URL, s.Target("b", site, tunnelclient.ProxyOptions{}).URL
	for _, c := range []struct{ url, want string }{{a + "/set", ""}, {a + "/", "wide=1"}, {b + "/", ""}, {s.URL + "/a/", ""}} {
		resp, err := v.Get(c.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := tunneltest.ReadAll(t, resp); got != c.want {
			t.Errorf("%s: cookies %q, want %q", c.url, got, c.want)
		}
	}
	// Without the service the cookie would be the other's too: it is not this
	// test's jar that keeps them apart.
	direct := httptest.NewRecorder()
	site.ServeHTTP(direct, httptest.NewRequest("GET", "/set", nil))
	jar, _ := cookiejar.New(nil)
	ua, _ := url.Parse(a)
	ub, _ := url.Parse(b)
	jar.SetCookies(ua, direct.Result().Cookies())
	if len(jar.Cookies(ub)) != 1 {
		t.Error("the jar keeps to itself what is for the whole domain")
	}
}

// TestHostModeOptions: a request for the server as a whole reaches the target as
// one.
func TestHostModeOptions(t *testing.T) {
	s := tunneltest.NewService(t, server.Config{ViewerDomain: "tunnels.test"})
	got := make(chan string, 1)
	target := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Method + " " + r.RequestURI }))
	target.Config.DisableGeneralOptionsHandler = true
	target.Start()
	t.Cleanup(target.Close)
	for id, keep := range map[string]bool{"plain": false, "kept": true} {
		base := s.Proxy(id, target.URL, tunnelclient.ProxyOptions{KeepPrefix: keep}).URL
		req, err := http.NewRequestWithContext(t.Context(), "OPTIONS", base, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = "*"
		resp, err := viewerAt(t, s, nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		tunneltest.ReadAll(t, resp)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", id, resp.Status)
		}
		if g := <-got; g != "OPTIONS *" {
			t.Errorf("%s: the target saw %q", id, g)
		}
	}
}
