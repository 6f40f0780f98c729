package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// named answers with who it is and what it sees of the request.
func named(id string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s: %s %s\n", id, r.Method, r.RequestURI)
		for _, k := range []string{"X-Forwarded-Prefix", "X-Forwarded-Host", "X-Forwarded-Proto", wire.HeaderOriginalPath, wire.HeaderID, "X-Websocktunnel-Upgrade", "X-Real-Ip"} {
			if vv, ok := r.Header[http.CanonicalHeaderKey(k)]; ok {
				fmt.Fprintf(w, "%s: %s\n", strings.ToLower(k), strings.Join(vv, "|"))
			}
		}
		io.WriteString(w, "host: "+r.Host+"\n")
	})
}

// TestHostMode: each tunnel has a host, where everything is its own.
func TestHostMode(t *testing.T) {
	s := newService(t, Config{ViewerDomain: "t.example"})
	_, port, _ := strings.Cut(strings.TrimPrefix(s.url, "http://"), ":")
	for _, id := range []string{"build-42", "team%2Fbuild", "Build-42"} {
		c := s.connect(id, named(id))
		if want := "http://" + string(labelOf(id)) + ".t.example:" + port; c.url != want {
			t.Errorf("client URL of %s is %q, want %q", id, c.url, want)
		}
	}
	get := func(target, host string, header ...string) string {
		return s.raw("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" + strings.Join(append(header, ""), "\r\n") + "\r\n")
	}

	t.Run("every host its tunnel", func(t *testing.T) {
		for host, id := range map[string]string{
			"build-42.t.example": "build-42", "BUILD-42.T.Example.:1": "build-42",
			string(labelOf("Build-42")) + ".t.example":                         "Build-42",
			strings.ToUpper(string(labelOf("team%2Fbuild"))) + ".t.example:80": "team%2Fbuild",
		} {
			got := get("/build-42/x?y", host)
			if !strings.Contains(got, id+": GET /build-42/x?y\nx-forwarded-host: "+host+"\n") || !strings.HasSuffix(got, "\nhost: "+host+"\n") {
				t.Errorf("%s: %q", host, got)
			}
			if strings.Contains(got, "x-forwarded-prefix") || !strings.Contains(got, "\nx-websocktunnel-original-path: /build-42/x\n") {
				t.Errorf("%s: %q", host, got)
			}
		}
	})

	t.Run("paths and headers", func(t *testing.T) {
		for _, path := range []string{"/__heartbeat__", "/__lbheartbeat__", "/__version__", "/", "/?", "//x/%2F/../y", "/not:an;id", "/.", "/..", "/%2e%2e/x"} {
			if got := get(path, "build-42.t.example"); !strings.Contains(got, "\r\n\r\n") || !strings.Contains(got, "build-42: GET "+path+"\n") {
				t.Errorf("%s: %q", path, got)
			}
		}
		if got := s.raw("OPTIONS * HTTP/1.1\r\nHost: build-42.t.example\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "build-42: OPTIONS *\n") ||
			!strings.Contains(got, "x-websocktunnel-original-path: *\n") {
			t.Errorf("OPTIONS *: %q", got)
		}
		// The header that makes a request a registration elsewhere, and that
		// alone of the private ones.
		got := get("/", "build-42.t.example", "Authorization: Bearer "+mint(t, "build-42"), "Upgrade: websocket", "Connection: Upgrade",
			"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: "+wire.Subprotocol,
			"X-Websocktunnel-Id: build-42", "X-Websocktunnel-Upgrade: spoofed", "X-Websocktunnel-Original-Path: /spoofed", "X-Real-IP: 192.0.2.1", "X-Forwarded-Prefix: /spoofed")
		if !strings.HasPrefix(got, "HTTP/1.1 200 ") || !strings.Contains(got, "\nx-websocktunnel-id: build-42\n") || strings.Contains(got, "spoofed") || strings.Contains(got, "x-real-ip") {
			t.Errorf("what would be a registration: %q", got)
		}
		if got := get("/", "build-42.t.example", "X_Websocktunnel_Id: spoofed", "X-Websocktunnel-Id: a", "X-Websocktunnel-Id: b"); strings.Contains(got, "spoofed") || !strings.Contains(got, "x-websocktunnel-id: a|b\n") {
			t.Errorf("two ids: %q", got)
		}
	})

	t.Run("nobody's", func(t *testing.T) {
		unknown := withoutDate(get("/x", "unknown.t.example"))
		if !strings.HasPrefix(unknown, "HTTP/1.1 404 ") || !strings.Contains(unknown, "Proxy-Status: websocktunnel; error=destination_not_found; details=\"WT-NO-TUNNEL") {
			t.Errorf("unknown: %q", unknown)
		}
		for _, host := range []string{"t.example", "a.build-42.t.example", "team%2fbuild.t.example", "x--build-42.t.example", "build_42.t.example", ".t.example"} {
			for _, path := range []string{"/", "/build-42/", "/__heartbeat__"} {
				if got := get(path, host, "X-Websocktunnel-Id: build-42"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
					t.Errorf("%s on %s: %q", path, host, got)
				}
			}
		}
		c := s.connect("left", named("left"))
		s.waitActive(c)
		c.conn.Close()
		waitFor(t, func() bool { sess, _ := s.registry.lookup(t.Context(), "left"); return sess == nil })
		if left := withoutDate(get("/x", "left.t.example")); left != unknown {
			t.Errorf("an id that was here gets %q, one that never was %q", left, unknown)
		}
	})

	t.Run("labels are no ids", func(t *testing.T) {
		if got := get("/"+string(labelOf("team%2Fbuild"))+"/", "service.example"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
			t.Errorf("by path: %q", got)
		}
		_, err := s.RoundTripper(string(labelOf("team%2Fbuild"))).RoundTrip(&http.Request{URL: &url.URL{Scheme: "http", Host: "x", Path: "/"}, Header: http.Header{}})
		if !errors.Is(err, ErrNoTunnel) {
			t.Errorf("in Go code: %v", err)
		}
	})

	t.Run("the service's hosts", func(t *testing.T) {
		for _, host := range []string{"service.example", "127.0.0.1:" + port, "build-42.t.example.com", "build-42.t.examplex"} {
			if got := get("/build-42/x", host); !strings.Contains(got, "build-42: GET /x\nx-forwarded-prefix: /build-42\n") {
				t.Errorf("by path on %s: %q", host, got)
			}
			if got := get("/__heartbeat__", host); !strings.HasSuffix(got, "\r\n\r\nok\n") {
				t.Errorf("heartbeat on %s: %q", host, got)
			}
			// Nobody is trusted here.
			if got := get("/x", host, "X-Forwarded-Host: build-42.t.example"); !strings.HasPrefix(got, "HTTP/1.1 404 ") {
				t.Errorf("X-Forwarded-Host on %s: %q", host, got)
			}
		}
		if got := s.raw("GET /build-42/x HTTP/1.0\r\n\r\n"); !strings.Contains(got, "build-42: GET /x\n") {
			t.Errorf("HTTP/1.0 without a Host: %q", got)
		}
		if got := s.raw("GET /x HTTP/1.0\r\nHost: build-42.t.example\r\n\r\n"); !strings.Contains(got, "build-42: GET /x\n") {
			t.Errorf("HTTP/1.0 with a Host: %q", got)
		}
	})

	t.Run("HTTP/2", func(t *testing.T) {
		cc := s.http2Viewer()
		for _, id := range []string{"build-42", "team%2Fbuild"} { // on one connection
			req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+string(labelOf(id))+".t.example/__version__", nil)
			resp, err := cc.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if !strings.HasPrefix(string(b), id+": GET /__version__\n") {
				t.Errorf("%s: %q", id, b)
			}
		}
		req, _ := http.NewRequestWithContext(t.Context(), "OPTIONS", "http://build-42.t.example", nil)
		req.URL.Opaque = "*"
		resp, err := cc.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if !strings.HasPrefix(string(b), "build-42: OPTIONS *\n") {
			t.Errorf("OPTIONS *: %q", b)
		}
	})
}

var dateLine = regexp.MustCompile(`Date: [^\r]*\r\n`)

func withoutDate(answer string) string {
	return requestName.ReplaceAllString(dateLine.ReplaceAllString(answer, ""), "REQUEST")
}

var requestName = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// TestHostModeBehindProxy: one that puts its own name into Host.
func TestHostModeBehindProxy(t *testing.T) {
	s := newService(t, Config{ViewerDomain: "t.example", TrustedProxies: []string{"127.0.0.1"}})
	s.connect("a", named("a"))
	s.connect("b", named("b"))
	for _, c := range []struct{ host, said, want string }{
		{"upstream:8080", "a.t.example", "a: GET /b/x\nx-forwarded-host: a.t.example\n"},
		{"upstream:8080", "service.example", "b: GET /x\nx-forwarded-prefix: /b\n"},
		{"a.t.example", "b.t.example", "a: GET /b/x\n"},
	} {
		if got := s.raw("GET /b/x HTTP/1.1\r\nHost: " + c.host + "\r\nConnection: close\r\nX-Forwarded-Host: " + c.said + "\r\n\r\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s, %s: %q", c.host, c.said, got)
		}
	}
}

// TestPathModeOff: by path nothing is reached, and nothing learnt.
func TestPathModeOff(t *testing.T) {
	s := newService(t, Config{ViewerDomain: "t.example", DisablePathMode: true})
	c := s.connect("a", named("a"))
	s.waitActive(c)
	get := func(target, host string) string {
		return withoutDate(s.raw("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"))
	}
	if got := get("/x", "a.t.example"); !strings.Contains(got, "a: GET /x\n") {
		t.Errorf("on its host: %q", got)
	}
	here, unknown := get("/a/x", "service.example"), get("/unknown/x", "service.example")
	if !strings.HasPrefix(here, "HTTP/1.1 404 ") || here != unknown || strings.Contains(here, "/<id>/") {
		t.Errorf("by path: %q, an unknown id: %q", here, unknown)
	}
	for path, want := range map[string]string{"/": "404", "/__heartbeat__": "200", "/__version__": "200", "/__version__/x": "404", "//x": "400", "/%2e": "400"} {
		if got := get(path, "service.example"); !strings.HasPrefix(got, "HTTP/1.1 "+want+" ") {
			t.Errorf("%s: %q", path, got)
		}
	}
	// Without paths no id speaks for a whole host.
	for _, id := range []string{".well-known", "robots.txt"} {
		s.connect(id, echoHandler)
	}
	// In Go code the id says it all.
	resp, err := (&http.Client{Transport: s.RoundTripper("a")}).Get("http://whatever/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("RoundTripper: %s", resp.Status)
	}
}

// TestHostModeMisses: guesses at host names count like guesses at paths.
func TestHostModeMisses(t *testing.T) {
	for _, off := range []bool{false, true} {
		s := newService(t, Config{ViewerDomain: "t.example", DisablePathMode: off})
		s.misses = newAddrLimiter(0, 3)
		targets := [][2]string{{"/", "guess.t.example"}, {"/", "t.example"}, {"/guess/", "service.example"}}
		for i, want := range []string{"404", "404", "404", "429", "429", "429"} {
			target := targets[i%len(targets)]
			if got := s.raw("GET " + target[0] + " HTTP/1.1\r\nHost: " + target[1] + "\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+want+" ") {
				t.Errorf("miss %d: %q, want %s", i, got, want)
			}
		}
	}
}

// TestHostModeStartup: a viewer who is early waits for the tunnel, though its
// label does not tell the id.
func TestHostModeStartup(t *testing.T) {
	s := newService(t, Config{ViewerDomain: "t.example", StartupWait: 20 * time.Second})
	const id = "Team%2FBuild"
	answer := make(chan string, 1)
	go func() {
		answer <- s.raw("GET /x HTTP/1.1\r\nHost: " + string(labelOf(id)) + ".t.example\r\nConnection: close\r\n\r\n")
	}()
	waitFor(t, func() bool {
		s.registry.mu.Lock()
		defer s.registry.mu.Unlock()
		return s.registry.expecting == 1
	})
	s.connect(id, named(id))
	if got := <-answer; !strings.Contains(got, id+": GET /x\n") {
		t.Errorf("got %q", got)
	}
}

// TestHostModeIsolation: on a host of its own a target says of its origin what
// it likes, and its cookies stay there.
func TestHostModeIsolation(t *testing.T) {
	var originWide []string
	for name, r := range reachByName {
		if r == reachOrigin {
			originWide = append(originWide, name)
		}
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range originWide {
			w.Header().Set(name, "x")
		}
		w.Header()["Set-Cookie"] = []string{"a=1; Path=/; Domain=t.example; Secure", "__Host-b=2;Path=/", "c=3; path=/a/;DOMAIN = .a.t.example", "d=4"}
		if r.URL.Path == "/hints" {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	for _, off := range []bool{false, true} {
		s := newService(t, Config{ViewerDomain: "t.example", DisablePathIsolation: off})
		s.connect("a", h)
		for _, path := range []string{"/", "/hints"} {
			got := s.raw("GET " + path + " HTTP/1.1\r\nHost: a.t.example\r\nConnection: close\r\n\r\n")
			for part := range strings.SplitSeq(strings.TrimSuffix(got, "\r\n\r\n"), "\r\n\r\n") { // 103, then 200
				for _, want := range append([]string{"Set-Cookie: a=1; Path=/; Secure", "Set-Cookie: __Host-b=2;Path=/", "Set-Cookie: c=3; path=/a/", "Set-Cookie: d=4"}, originWide...) {
					if !strings.Contains(part+"\r\n", "\r\n"+want+"\r\n") && !strings.Contains(part, "\r\n"+want+": x") {
						t.Errorf("path isolation off %t, %s: no %q in %q", off, path, want, part)
					}
				}
			}
		}
		// By path the same tunnel shares the service's origin.
		got := s.raw("GET /a/ HTTP/1.1\r\nHost: service.example\r\nConnection: close\r\n\r\n")
		for _, name := range originWide {
			if strings.Contains(got, "\r\n"+name+":") != off {
				t.Errorf("by path, isolation off %t: %q", off, got)
			}
		}
		if cookie := "Set-Cookie: a=1; Path=/a; Secure\r\n"; strings.Contains(got, cookie) == off {
			t.Errorf("by path, isolation off %t: %q", off, got)
		}
	}
}

func TestHostOnlyCookie(t *testing.T) {
	for cookie, want := range map[string]string{
		"a=b":                               "a=b",
		"":                                  "",
		";;":                                ";;",
		"a=b; Path=/x; Domain=t.example":    "a=b; Path=/x",
		"a=b;domain;DOMAIN=x;\tDomain\t=y":  "a=b",
		"a=b; Domain=; Path=app ;HttpOnly":  "a=b; Path=app ;HttpOnly",
		"Domain=x; Domains=y; X-Domain=z":   "Domain=x; Domains=y; X-Domain=z",
		"__Host-a=b; Path=/; Secure":        "__Host-a=b; Path=/; Secure",
		"a=\xff; Domain=\"x\";  Path = /y ": "a=\xff;  Path = /y ",
	} {
		if got := hostOnlyCookie(cookie); got != want {
			t.Errorf("%q became %q, want %q", cookie, got, want)
		}
	}
}
