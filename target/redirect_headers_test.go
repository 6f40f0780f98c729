package target_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/target"
)

// TestRewriteRedirectsHeaders: only Location, Content-Location and Refresh were
// rewritten, and what frameworks do in pages led out of the tunnel.
func TestRewriteRedirectsHeaders(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, value, want string }{
		{"HX-Redirect", "/a", "/id/a"},
		{"HX-Redirect", "http://localhost:3000/a?b#c", "/id/a?b#c"},
		{"HX-Redirect", "https://elsewhere.example/a", "https://elsewhere.example/a"},
		{"HX-Push-Url", "/a", "/id/a"},
		{"HX-Push-Url", "false", "false"},
		{"HX-Replace-Url", "/a", "/id/a"},
		{"HX-Replace-Url", "false", "false"},
		{"HX-Push", "/a", "/id/a"},
		{"HX-Location", "/a", "/id/a"},
		{"HX-Location", `{"path":"/a", "target":"#b"}`, `{"path":"/id/a", "target":"#b"}`},
		{"HX-Location", `{ "values": {"path": "/a"}, "path" : "\/a?x=\"<&>\"" }`, `{ "values": {"path": "/a"}, "path" : "/id/a?x=\"<&>\"" }`},
		{"HX-Location", `{"path":"a","push":"/b","replace":"false","list":["/c",{"path":"/d"}],"source":"/e"}`, `{"path":"a","push":"/id/b","replace":"false","list":["/c",{"path":"/d"}],"source":"/e"}`},
		{"HX-Location", `{"path":"http://localhost:3000/ä"}`, `{"path":"/id/ä"}`},
		{"HX-Location", `{"path":"https://elsewhere.example/"}`, `{"path":"https://elsewhere.example/"}`},
		{"HX-Location", `{"path":7,"push":null}`, `{"path":7,"push":null}`},
		{"HX-Location", `{"path":"/a"`, `{"path":"/a"`},
		{"HX-Location", `{}`, `{}`},
		{"HX-Trigger", `{"path":"/a"}`, `{"path":"/a"}`},
		{"Turbolinks-Location", "http://t.example/a", "/id/a"},
		{"SourceMap", "/a.js.map", "/id/a.js.map"},
		{"SourceMap", "a.js.map", "a.js.map"},
		{"X-SourceMap", "/a.js.map", "/id/a.js.map"},
		{"X-PJAX-URL", "/a", "/id/a"},
		{"X-Inertia-Location", "/a", "/id/a"},
		{"X-Up-Location", "/a", "/id/a"},
		{"X-Pingback", "http://localhost:3000/xmlrpc.php", "/id/xmlrpc.php"},
		{"Service-Worker-Allowed", "/", "/id/"},

		{"Link", `</a>; rel=next`, `</id/a>; rel=next`},
		{"Link", `</a>;rel="next", <b>; rel=prev,<http://localhost:3000/c>`, `</id/a>;rel="next", <b>; rel=prev,</id/c>`},
		{"Link", `<https://elsewhere.example/>; rel=preconnect`, `<https://elsewhere.example/>; rel=preconnect`},
		{"Link", `</a,b;c>; title="x, </y>; anchor=/z \" \\", </d>`, `</id/a,b;c>; title="x, </y>; anchor=/z \" \\", </id/d>`},
		{"Link", `</a>; anchor="/b"; rel=x; Anchor = /c ;y`, `</id/a>; anchor="/id/b"; rel=x; Anchor = /id/c ;y`},
		{"Link", `<>; rel=preload; as=image; imagesrcset="/a.png?x=1,2 1x, /b.png 2x,/c.png"; imagesizes=100vw`, `<>; rel=preload; as=image; imagesrcset="/id/a.png?x=1,2 1x, /id/b.png 2x,/id/c.png"; imagesizes=100vw`},
		{"Link", ` , </a> ,, </b> , `, `, </id/a> ,, </id/b> ,`},
		{"Link", `no link; anchor=/a, </b>`, `no link; anchor=/id/a, </id/b>`},
		{"Link", `</a`, `</a`},
		{"Link", `</a>; title="open, </b>`, `</id/a>; title="open, </b>`},
		{"Link", `</a>; anchor=`, `</id/a>; anchor=`},
		{"Link", ``, ``},

		{"Refresh", `0;url="'/a'"`, `0;url="'/a'"`}, // a relative reference
		{"Content-Security-Policy", "default-src 'self' /a; report-uri /csp http://localhost:3000/csp https://elsewhere.example/; img-src *", "default-src 'self' /a; report-uri /id/csp /id/csp https://elsewhere.example/; img-src *"},
		{"Content-Security-Policy", "Report-URI /a, report-uri /b", "Report-URI /id/a, report-uri /id/b"},
		{"Content-Security-Policy-Report-Only", "report-uri /csp", "report-uri /id/csp"},
		{"Content-Security-Policy", "report-uri", "report-uri"},
		{"Content-Security-Policy", "x-report-uri /a", "x-report-uri /a"},
		{"Reporting-Endpoints", `a="/r", b="https://elsewhere.example/"`, `a="/id/r", b="https://elsewhere.example/"`},
		{"Speculation-Rules", `"/rules.json", "/r\"2"`, `"/id/rules.json", "/id/r\"2"`},

		{"X-Further", "/a", "/id/a"},
		{"X-Other", "/a", "/a"},
		{"Access-Control-Allow-Origin", "http://localhost:3000", "http://localhost:3000"},
	} {
		for _, interim := range []bool{false, true} {
			answer := "HTTP/1.1 200 OK\r\n" + tt.name + ": " + tt.value + "\r\nContent-Length: 0\r\n\r\n"
			if interim {
				answer = "HTTP/1.1 103 Early Hints\r\n" + tt.name + ": " + tt.value + "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
			}
			addr, _ := rawTarget(t, strings.ReplaceAll(answer, "localhost:3000", "TARGET"))
			p := proxyTo(t, addr, target.Options{RewriteRedirects: true, RedirectHeaders: []string{"x-further"}, HostHeader: "TARGET"})
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Header.Set("X-Forwarded-Prefix", "/id")
				r.Header.Set("X-Forwarded-Host", "t.example")
				p.ServeHTTP(w, r)
			}))
			early := http.Header{}
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
				early = http.Header(h)
				return nil
			}})
			h := do(t, ctx, srv.URL, nil).Header
			if interim {
				h = early
			}
			if got := h.Get(tt.name); got != strings.ReplaceAll(tt.want, "localhost:3000", "TARGET") {
				t.Errorf("%s: %q became %q, want %q (interim answer: %v)", tt.name, tt.value, got, tt.want, interim)
			}
			srv.Close()
		}
	}
}

// Rewriting cannot make much of an answer's header: what grows too large does not
// pass.
func TestRewriteRedirectsBounded(t *testing.T) {
	t.Parallel()
	prefix := "/" + strings.Repeat("x", 900)
	for name, value := range map[string]string{
		"Link":                    strings.Repeat("</>,", 40_000),
		"Content-Security-Policy": "report-uri" + strings.Repeat(" /", 40_000),
		"Reporting-Endpoints":     strings.Repeat(`a="/",`, 30_000),
	} {
		r := redirected(prefix, "https")
		h := http.Header{name: {value}}
		target.RewriteRedirects(r, h)
		if n := len(h.Get(name)); n < 200<<10 || n > 1<<20 {
			t.Errorf("%s has %d bytes", name, n)
		}
	}
}

func TestRedirectHeaderRules(t *testing.T) {
	t.Parallel()
	for _, o := range []target.Options{
		{RedirectHeaders: []string{"X-A"}},
		{RewriteRedirects: true, RedirectHeaders: []string{"a b"}},
		{RewriteRedirects: true, RedirectHeaders: []string{"Upgrade"}},
	} {
		_, err := target.New("80", o)
		if faults := configerror.All(err); len(faults) != 1 || faults[0].Field != "Options.RedirectHeaders" {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// The documented list is the whole list.
func TestRedirectHeadersDocumented(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "### Redirects of the target\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var missing []string
	for _, name := range target.RedirectHeaderNames() {
		if !strings.Contains(strings.ToLower(section), "`"+strings.ToLower(name)+"`") {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("docs/configuration.md does not name %q", missing)
	}
}
