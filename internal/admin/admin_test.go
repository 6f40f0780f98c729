package admin_test

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/server"
)

// service is a fake with some tunnels.
type service struct {
	tunnels  []server.TunnelInfo
	gone     []server.TunnelInfo
	evicted  []string
	draining bool
}

func (s *service) Status() server.Status {
	return server.Status{Tunnels: len(s.tunnels), Draining: s.draining, Sessions: map[string]int{"active": len(s.tunnels)}}
}
func (s *service) Tunnels() iter.Seq[server.TunnelInfo] { return slices.Values(s.tunnels) }
func (s *service) Gone() iter.Seq[server.TunnelInfo]    { return slices.Values(s.gone) }
func (s *service) Evicted() []string                    { return s.evicted }

func (s *service) Tunnel(id string) (server.TunnelDetails, bool) {
	for _, t := range s.tunnels {
		if t.ID == id {
			return server.TunnelDetails{
				ID: id, Active: &t, Sessions: []server.SessionInfo{{State: "active"}},
				Failures: []server.RequestFailure{{Status: 502, Hop: "target", Error: "connection_refused", ErrorCode: "WT-TARGET-REFUSED"}},
			}, true
		}
	}
	for _, t := range s.gone {
		if t.ID == id {
			return server.TunnelDetails{ID: id, Gone: &t}, true
		}
	}
	return server.TunnelDetails{}, false
}

func (s *service) Evict(id string) bool {
	if _, ok := s.Tunnel(id); !ok {
		return false
	}
	s.tunnels = slices.DeleteFunc(s.tunnels, func(t server.TunnelInfo) bool { return t.ID == id })
	s.evicted = append(s.evicted, id)
	return true
}

func (s *service) Unblock(id string) bool {
	n := len(s.evicted)
	s.evicted = slices.DeleteFunc(s.evicted, func(e string) bool { return e == id })
	return len(s.evicted) < n
}

func newService(n int) *service {
	s := &service{}
	for i := range n {
		s.tunnels = append(s.tunnels, server.TunnelInfo{
			ID: fmt.Sprintf("tunnel-%05d", (i*7919)%n), RemoteAddr: fmt.Sprintf("192.0.2.%d:1000", i%250),
			ConnectedAt: time.Unix(int64(i), 0), InFlight: i % 10, Sent: int64(i), RoundTrip: time.Duration(i) * time.Microsecond,
		})
	}
	return s
}

// ask sends a request; headers are "Name: value".
func ask(h http.Handler, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "127.0.0.1:9000"
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const change = admin.HeaderChange + ": 1"

// TestNoSuchOperation: what is wrong is said as everywhere in the API.
func TestNoSuchOperation(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(1), Drain: func() {}})
	for target, want := range map[string]int{"/api/v1/nosuch": 404, "/api/v1/drain": 405, "/api/": 404} {
		w := ask(a, "GET", target, "")
		if w.Code != want || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", target, w.Code, w.Header().Get("Content-Type"))
		}
		if want == 405 && w.Header().Get("Allow") != "POST" {
			t.Errorf("%s: Allow is %q", target, w.Header().Get("Allow"))
		}
	}
}

// TestGuard: everyone may ask for health, and for nothing else without the token,
// from a page of another origin, or under an unknown name.
func TestGuard(t *testing.T) {
	const (
		token = "the admin token"
		right = "Authorization: Bearer " + token
		own   = "Origin: http://127.0.0.1:9000"
	)
	drained := 0
	cfg := admin.Config{
		Service: newService(3), Hosts: []string{"admin.example.com"},
		Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Drain: func() { drained++ },
	}
	public := admin.New(cfg)
	cfg.Token = token
	private := admin.New(cfg)

	login := ask(private, "POST", "/login", "token="+strings.ReplaceAll(token, " ", "+"), own, "Content-Type: application/x-www-form-urlencoded")
	if login.Code != http.StatusSeeOther {
		t.Fatalf("login: %d %s", login.Code, login.Body)
	}
	set := login.Result().Cookies()[0]
	if !set.HttpOnly || set.SameSite != http.SameSiteStrictMode || set.Path != "/" || strings.Contains(set.Value, token) {
		t.Errorf("cookie: %v", set)
	}
	cookie := "Cookie: " + set.Name + "=" + set.Value
	forged := "Cookie: " + set.Name + "=9" + set.Value

	for _, tc := range []struct {
		h            http.Handler
		method, path string
		headers      []string
		want         int
	}{
		// Open.
		{private, "GET", "/healthz", nil, 200},
		{private, "GET", "/readyz", []string{"Host: elsewhere.example", "Origin: http://elsewhere.example", "Sec-Fetch-Site: cross-site"}, 200},
		{private, "GET", "/healthz/", nil, 401},
		{private, "GET", "//healthz", nil, 401},
		// The token.
		{private, "GET", "/api/v1/tunnels", nil, 401},
		{private, "GET", "/", nil, 401},
		{private, "GET", "/metrics", nil, 401},
		{private, "GET", "/debug/pprof/", nil, 401},
		{private, "GET", "/debug/pprof/heap", nil, 401},
		{private, "GET", "/api/v1/openapi.json", nil, 401},
		{private, "GET", "/nothing", nil, 401},
		{private, "GET", "/events", nil, 401},
		{private, "GET", "/assets/page.js", nil, 401},
		{private, "GET", "/assets/page.js", []string{cookie}, 200},
		{private, "GET", "/assets/page.html", []string{cookie}, 404},
		{private, "GET", "/", []string{cookie}, 200},
		{private, "GET", "/events?sort=colour", []string{cookie}, 400},
		{public, "GET", "/events", []string{"Origin: http://evil.example"}, 403},
		{private, "POST", "/api/v1/drain", []string{change}, 401},
		{private, "GET", "/metrics", []string{"Authorization: Bearer wrong"}, 401},
		{private, "GET", "/metrics", []string{"Authorization: Bearer "}, 401},
		{private, "GET", "/metrics", []string{"Authorization: Basic " + token}, 401},
		{private, "GET", "/metrics", []string{right, right}, 401},
		{private, "GET", "/metrics", []string{"Authorization: Bearer wrong", cookie}, 401},
		{private, "GET", "/metrics", []string{right}, 200},
		{private, "GET", "/metrics", []string{"Authorization: bearer " + token}, 200},
		{private, "GET", "/metrics", []string{cookie}, 200},
		{private, "GET", "/metrics", []string{forged}, 401},
		{private, "GET", "/metrics", []string{"Cookie: " + set.Name + "=" + token}, 401},
		{private, "GET", "/debug/pprof/", []string{right}, 200},
		{private, "GET", "/debug/pprof/cmdline", []string{right}, 404}, // flags may hold secrets
		{public, "GET", "/metrics", nil, 200},
		// Host: DNS rebinding.
		{public, "GET", "/metrics", []string{"Host: evil.example:9000"}, 403},
		{private, "GET", "/metrics", []string{"Host: evil.example:9000", right}, 403},
		{private, "POST", "/login", []string{"Host: evil.example", "Origin: http://evil.example"}, 403},
		{public, "GET", "/metrics", []string{"Host: localhost.evil.example"}, 403},
		{public, "GET", "/metrics", []string{"Host: 127.0.0.1.evil.example"}, 403},
		{public, "GET", "/metrics", []string{"Host: "}, 403},
		{public, "GET", "/metrics", []string{"Host: localhost:9000"}, 200},
		{public, "GET", "/metrics", []string{"Host: LOCALHOST"}, 200},
		{public, "GET", "/metrics", []string{"Host: [::1]:9000"}, 200},
		{public, "GET", "/metrics", []string{"Host: 10.1.2.3"}, 200},
		{public, "GET", "/metrics", []string{"Host: Admin.Example.com:443"}, 200},
		// Pages of other origins.
		{public, "GET", "/api/v1/tunnels", []string{"Origin: http://evil.example"}, 403},
		{public, "GET", "/api/v1/tunnels", []string{"Origin: null"}, 403},
		{public, "GET", "/api/v1/tunnels", []string{"Origin: http://127.0.0.1:9001"}, 403},
		{public, "GET", "/api/v1/tunnels", []string{own}, 200},
		{public, "GET", "/api/v1/tunnels", []string{own, own}, 403},
		{public, "GET", "/api/v1/tunnels", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"}, 403},
		{public, "GET", "/api/v1/tunnels", []string{"Sec-Fetch-Site: same-site"}, 403},
		{public, "GET", "/api/v1/tunnels", []string{"Sec-Fetch-Site: same-origin"}, 200},
		{public, "GET", "/api/v1/tunnels", []string{"Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"}, 200},
		{public, "GET", "/api/v1/tunnels", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 200},
		{public, "GET", "/api/v1/tunnels", []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"}, 403},
		{public, "OPTIONS", "/api/v1/drain", []string{"Origin: http://evil.example", "Access-Control-Request-Method: POST"}, 403},
		// What changes something.
		{public, "POST", "/api/v1/drain", nil, 403},
		{public, "POST", "/api/v1/drain", []string{own}, 403},
		{public, "POST", "/api/v1/drain", []string{change, "Origin: http://evil.example"}, 403},
		{public, "POST", "/api/v1/drain", []string{change, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"}, 403},
		{private, "POST", "/api/v1/drain", []string{right}, 403},
		{private, "POST", "/api/v1/drain", []string{cookie, change}, 403},
		{private, "POST", "/api/v1/drain", []string{cookie, own}, 403},
		{private, "GET", "/api/v1/drain", []string{right, change}, 405},
		{private, "POST", "/api/v1/drain", []string{cookie, own, change}, 202},
		{private, "POST", "/api/v1/drain", []string{right, change}, 202},
		{public, "POST", "/api/v1/drain", []string{change}, 202},
		{public, "POST", "/api/v1/drain", []string{change, own}, 202},
		// Logging in.
		{private, "POST", "/login", nil, 403},
		{private, "POST", "/login", []string{"Origin: null"}, 403},
		{private, "POST", "/login", []string{own}, 401},
		{private, "GET", "/login", []string{right}, 405},
		{private, "POST", "/logout", []string{cookie, own, change}, 204},
	} {
		before := drained
		w := ask(tc.h, tc.method, tc.path, "", tc.headers...)
		if w.Code != tc.want {
			t.Errorf("%s %s %q: %d, want %d: %s", tc.method, tc.path, tc.headers, w.Code, tc.want, w.Body)
		}
		if (drained > before) != (tc.want == 202) {
			t.Errorf("%s %s %q: drained %d times", tc.method, tc.path, tc.headers, drained-before)
		}
		if w.Code == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s %s: a 401 without a challenge", tc.method, tc.path)
		}
		h := w.Header()
		if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'") || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("Access-Control-Allow-Origin") != "" || strings.Contains(w.Body.String(), token) {
			t.Errorf("%s %s: header %v", tc.method, tc.path, h)
		}
	}
}

// TestLoginForm: a browser gets the form in place of an error.
func TestLoginForm(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(0), Token: "t"})
	const html = "Accept: text/html,*/*;q=0.8"
	if w := ask(a, "GET", "/", "", html); w.Code != 401 || !strings.Contains(w.Body.String(), `action="/login"`) || strings.Contains(w.Body.String(), "not the token") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w := ask(a, "POST", "/login", "token=x", html, "Origin: http://127.0.0.1:9000", "Content-Type: application/x-www-form-urlencoded")
	if w.Code != 401 || !strings.Contains(w.Body.String(), "not the token") || len(w.Result().Cookies()) != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	w = ask(a, "POST", "/login", "token=t", "Host: localhost", "Origin: https://localhost", "Content-Type: application/x-www-form-urlencoded")
	if c := w.Result().Cookies(); len(c) != 1 || !c[0].Secure {
		t.Errorf("behind TLS: %d, cookies %v", w.Code, c)
	}
}

// TestReadiness: a service that drains is alive and not ready.
func TestReadiness(t *testing.T) {
	s := newService(0)
	a := admin.New(admin.Config{Service: s, Token: "t"})
	s.draining = true
	if w := ask(a, "GET", "/readyz", ""); w.Code != 503 {
		t.Errorf("readyz: %d", w.Code)
	}
	if w := ask(a, "GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("healthz: %d", w.Code)
	}
}

// TestListTunnels: pages do not overlap, and the order and the search are as asked.
func TestListTunnels(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(1000)})
	list := func(query string) (l admin.TunnelList) {
		t.Helper()
		w := ask(a, "GET", "/api/v1/tunnels"+query, "")
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != 200 {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		return l
	}
	seen := map[string]bool{}
	for offset := 0; offset < 1000; offset += 300 {
		l := list(fmt.Sprintf("?limit=300&sort=in_flight&offset=%d", offset))
		if l.Total != 1000 || len(l.Tunnels) != min(300, 1000-offset) {
			t.Errorf("offset %d: %d of %d", offset, len(l.Tunnels), l.Total)
		}
		for _, tun := range l.Tunnels {
			if seen[tun.ID] {
				t.Errorf("%s is on two pages", tun.ID)
			}
			seen[tun.ID] = true
		}
	}
	if l := list(""); len(l.Tunnels) != 50 || l.Tunnels[0].ID != "tunnel-00000" || l.Tunnels[49].ID != "tunnel-00049" {
		t.Errorf("by default: %d, first %s", len(l.Tunnels), l.Tunnels[0].ID)
	}
	if l := list("?sort=-sent_bytes&limit=2"); l.Tunnels[0].SentBytes != 999 || l.Tunnels[1].SentBytes != 998 {
		t.Errorf("by bytes: %+v", l.Tunnels)
	}
	if l := list("?search=NNEL-0012"); l.Total != 10 {
		t.Errorf("search: %d", l.Total)
	}
	if l := list("?search=192.0.2.17:"); l.Total != 4 {
		t.Errorf("search by address: %d", l.Total)
	}
	if l := list("?offset=5000"); l.Total != 1000 || l.Tunnels == nil || len(l.Tunnels) != 0 {
		t.Errorf("behind the end: %+v", l)
	}
	for _, query := range []string{"?sort=colour", "?limit=0", "?limit=1001", "?limit=x", "?offset=-1", "?page=2", "?limit=1&limit=2", "?a;b", "?state=here"} {
		if w := ask(a, "GET", "/api/v1/tunnels"+query, ""); w.Code != 400 {
			t.Errorf("%s: %d", query, w.Code)
		}
	}
}

// TestGone: tunnels that have gone are in the list, which has them alone or not at all
// on request, and their details say that their tokens are blocked.
func TestGone(t *testing.T) {
	s := newService(3)
	s.gone = []server.TunnelInfo{
		{ID: "flaps", Gone: true, Reconnects: 9, LastEnd: time.Unix(2, 0), LastEndReason: "lost"},
		{ID: "left", Gone: true, LastEnd: time.Unix(1, 0), LastEndReason: "evicted"},
	}
	s.evicted = []string{"left"}
	a := admin.New(admin.Config{Service: s})
	for query, want := range map[string]string{
		"":                                     "flaps left tunnel-00000 tunnel-00001 tunnel-00002 ",
		"?state=gone":                          "flaps left ",
		"?state=gone&sort=last_end_at":         "left flaps ",
		"?state=connected":                     "tunnel-00000 tunnel-00001 tunnel-00002 ",
		"?sort=-reconnects&limit=1":            "flaps ",
		"?sort=-state&limit=2":                 "flaps left ",
		"?search=f&sort=-last_end_at":          "flaps left ",
		"?state=connected&search=left":         "",
		"?state=gone&offset=1&limit=1":         "left ",
		"?state=&sort=state&limit=1":           "tunnel-00000 ",
		"?sort=-failed_requests&limit=1":       "flaps ",
		"?state=gone&sort=-round_trip_seconds": "flaps left ",
	} {
		var l admin.TunnelList
		w := ask(a, "GET", "/api/v1/tunnels"+query, "")
		if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil {
			t.Fatal(w.Body, err)
		}
		var got strings.Builder
		for _, tun := range l.Tunnels {
			got.WriteString(tun.ID + " ")
			if (tun.State == "gone") != (tun.LastEndAt != nil) {
				t.Errorf("%s: %+v", query, tun)
			}
		}
		if got.String() != want {
			t.Errorf("%s: %q, want %q", query, got.String(), want)
		}
	}
	for id, blocked := range map[string]bool{"flaps": false, "left": true} {
		var d admin.TunnelDetail
		w := ask(a, "GET", "/api/v1/tunnels/"+id, "")
		if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || d.Gone == nil || d.Active != nil || d.Blocked != blocked || d.Gone.State != "gone" {
			t.Errorf("%s: %s", id, w.Body)
		}
	}
}

// TestEvict: an id with a percent sign is encoded once more in the path.
func TestEvict(t *testing.T) {
	s := newService(2)
	s.tunnels = append(s.tunnels, server.TunnelInfo{ID: "team%2Fbuild"})
	a := admin.New(admin.Config{Service: s})
	for _, step := range []struct {
		path string
		want int
	}{
		{"/api/v1/tunnels/nobody/evict", 404},
		{"/api/v1/tunnels/team%2Fbuild/evict", 404},
		{"/api/v1/tunnels/team%252Fbuild/unblock", 404},
		{"/api/v1/tunnels/team%252Fbuild/evict", 200},
		{"/api/v1/tunnels/team%252Fbuild/evict", 404},
		{"/api/v1/tunnels/team%252Fbuild/unblock", 200},
	} {
		if w := ask(a, "POST", step.path, "", change); w.Code != step.want {
			t.Errorf("%s: %d %s", step.path, w.Code, w.Body)
		}
	}
}

// BenchmarkList is a page of 10,000 tunnels.
func BenchmarkList(b *testing.B) {
	a := admin.New(admin.Config{Service: newService(10_000)})
	for b.Loop() {
		ask(a, "GET", "/api/v1/tunnels?sort=-in_flight", "")
	}
}
