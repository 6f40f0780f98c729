package server

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestIsolationHeaders(t *testing.T) {
	h := http.Header{}
	for _, name := range []string{"Service-Worker-Allowed", "Clear-Site-Data", "Alt-Svc", "Strict-Transport-Security", "NEL", "Report-To",
		"Reporting-Endpoints", "Public-Key-Pins", "Origin-Agent-Cluster"} {
		h.Add(name, "x")
		h.Add(name, "y")
	}
	h.Add("Content-Security-Policy", "default-src 'self'")
	h.Add("Set-Cookie", "a=1; Path=/")
	h.Add("Set-Cookie", "b=2; Path=/x; Domain=example.com")
	kept := h.Clone()

	isolation{off: true}.apply(h, route{kind: routeTunnel, id: "id"})
	if !maps.EqualFunc(h, kept, slices.Equal) {
		t.Errorf("switched off, and yet: %v", h)
	}
	before := h["Set-Cookie"]
	isolation{prefixPath: "/p"}.apply(h, route{kind: routeTunnel, id: "id"})
	want := http.Header{
		"Content-Security-Policy": {"default-src 'self'"},
		"Set-Cookie":              {"a=1; Path=/p/id", "b=2; Path=/p/id/x"},
	}
	if !maps.EqualFunc(h, want, slices.Equal) {
		t.Errorf("got %v, want %v", h, want)
	}
	if before[0] != "a=1; Path=/" {
		t.Error("the caller's slice was changed in place")
	}
	empty := http.Header{}
	isolation{}.apply(empty, route{kind: routeTunnel, id: "id"})
	if len(empty) != 0 {
		t.Errorf("no headers became %v", empty)
	}
}

func TestIsolateCookie(t *testing.T) {
	long := "/" + strings.Repeat("x", 1023)
	for _, c := range []struct{ name, rest, cookie, want string }{
		// RFC 6265, section 5.1.4: /p/id/ does not match /p/id, /p/id matches both.
		{"root", "/x", "a=b; Path=/", "a=b; Path=/p/id"},
		{"root, answer to the base", "", "a=b; Path=/; Secure", "a=b; Path=/p/id; Secure"},
		{"root, odd spacing", "/x", "a=b;PATH = \t/ ;Secure", "a=b; Path=/p/id;Secure"},
		{"already the base with a slash", "/x", "a=b; Path=/p/id/", "a=b; Path=/p/id/"},
		{"below", "/x", "a=b; Path=/app", "a=b; Path=/p/id/app"},
		{"below, slash", "/x", "a=b; Path=/app/", "a=b; Path=/p/id/app/"},
		{"two slashes", "/x", "a=b; Path=//", "a=b; Path=/p/id//"},
		{"already under", "/x", "a=b; Path=/p/id/app; Secure", "a=b; Path=/p/id/app; Secure"},
		{"already the base", "/x", "a=b; path=/p/id", "a=b; path=/p/id"},
		{"already under, odd spacing kept", "/x", "a=b;\tPATH =  /p/id/ ;Secure", "a=b;\tPATH =  /p/id/ ;Secure"},
		{"under another id", "/x", "a=b; Path=/p/id2", "a=b; Path=/p/id/p/id2"},
		{"the id in other case", "/x", "a=b; Path=/p/ID/", "a=b; Path=/p/id/p/ID/"},
		{"without the prefix", "/x", "a=b; Path=/id/", "a=b; Path=/p/id/id/"},

		// Without a Path that counts, the browser's default is right, except
		// on the base itself, where it is one level too high.
		{"no Path", "/x", "a=b", "a=b"},
		{"no Path, base with slash", "/", "a=b; Secure", "a=b; Secure"},
		{"no Path, base", "", "a=b; Secure", "a=b; Secure; Path=/p/id"},
		{"no attributes, base", "", "a=b", "a=b; Path=/p/id"},
		{"empty attributes, base", "", "a=b;", "a=b;; Path=/p/id"},
		{"relative Path", "/x", "a=b; Path=app; Secure", "a=b; Secure"},
		{"relative Path, base", "", "a=b; Path=app; Secure", "a=b; Path=/p/id; Secure"},
		{"empty Path", "/x", "a=b; Path=", "a=b"},
		{"empty Path, base", "", "a=b; Path", "a=b; Path=/p/id"},
		{"quoted Path is a relative one", "/x", `a=b; Path="/"`, "a=b"},

		{"last Path counts", "/x", "a=b; Path=/one; Secure; pAtH=/two", "a=b; Path=/p/id/two; Secure"},
		{"last Path counts, even the same", "/x", "a=b; Path=/p/id/; Path=/p/id/", "a=b; Path=/p/id/"},
		{"last Path counts, already under", "/x", "a=b; Path=app; Secure;Path=/p/id/", "a=b;Path=/p/id/; Secure"},
		{"last Path counts, relative", "/x", "a=b; Path=/; Path=app", "a=b"},
		{"last Path counts, first relative", "/x", "a=b; Path=app; Path=/", "a=b; Path=/p/id"},
		{"too long for browsers", "/x", "a=b; Path=" + long + "x", "a=b"},
		{"too long for browsers, base", "", "a=b; Path=" + long + "x", "a=b; Path=/p/id"},
		{"too long once prefixed", "/x", "a=b; Path=" + long, "a=b; Path=/p/id"},

		{"Domain", "/x", "a=b; Domain=example.com; Path=/", "a=b; Path=/p/id"},
		{"Domain alone", "/x", "a=b; Domain=example.com", "a=b"},
		{"Domain in every form", "/x", "a=b;domain;DOMAIN=x;\tDomain\t=\ty; Secure;  dOmAiN=", "a=b; Secure"},
		{"nearly Domain", "/x", "a=b; Domains=x; X-Domain=y; Do main=z", "a=b; Domains=x; X-Domain=y; Do main=z"},

		{"the rest untouched", "/x", "a=b; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Max-Age=0;HttpOnly ; SameSite=None; Secure; Partitioned; Path=/; Priority=High",
			"a=b; Expires=Wed, 21 Oct 2015 07:28:00 GMT; Max-Age=0;HttpOnly ; SameSite=None; Secure; Partitioned; Path=/p/id; Priority=High"},
		{"odd pair untouched", "/x", "  Path = \"x y\\\" ,\xff= ; Path=/", "  Path = \"x y\\\" ,\xff= ; Path=/p/id"},
		{"pair named Domain", "/x", "Domain=evil; Path=/", "Domain=evil; Path=/p/id"},
		{"pair named Path", "", "Path=/", "Path=/; Path=/p/id"},
		{"empty", "/x", "", ""},
		{"separators only", "/x", ";;;", ";;;"},
		{"__Host-: browsers will drop it, in place of sending it everywhere", "/x", "__Host-a=b; Secure; Path=/", "__Host-a=b; Secure; Path=/p/id"},
		{"__Secure-", "/x", "__Secure-a=b; Secure; Path=/", "__Secure-a=b; Secure; Path=/p/id"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := isolateCookie(c.cookie, "/p/id", c.rest)
			if got != c.want {
				t.Errorf("%q became %q, want %q", c.cookie, got, c.want)
			}
			if again := isolateCookie(got, "/p/id", c.rest); again != got {
				t.Errorf("a second time: %q", again)
			}
		})
	}
}

// browserCookie reads a Set-Cookie as RFC 6265, section 5.2, and the limit of
// RFC 6265bis, section 5.6, say, step by step: the first name-value-pair, the
// effective path and whether there is a Domain.
func browserCookie(cookie, requestPath string) (pair, path string, domain bool) {
	// Section 5.1.4: default-path.
	path = requestPath[:strings.LastIndexByte(requestPath, '/')]
	if path == "" {
		path = "/"
	}
	defaultPath := path
	pair = cookie
	unparsed := ""
	if i := strings.IndexByte(cookie, ';'); i >= 0 {
		pair, unparsed = cookie[:i], cookie[i:]
	}
	for unparsed != "" {
		unparsed = unparsed[1:]
		av := unparsed
		if i := strings.IndexByte(unparsed, ';'); i >= 0 {
			av = unparsed[:i]
		}
		unparsed = unparsed[len(av):]
		name, value := av, ""
		if before, after, ok := strings.Cut(av, "="); ok {
			name, value = before, after
		}
		name = strings.ToLower(strings.Trim(name, "\t "))
		value = strings.Trim(value, "\t ")
		if name == "domain" {
			domain = true
		}
		if name != "path" || len(value) > 1024 {
			continue
		}
		path = defaultPath
		if strings.HasPrefix(value, "/") {
			path = value
		}
	}
	return pair, path, domain
}

func FuzzSetCookie(f *testing.F) {
	for _, c := range []string{"a=b", "a=b; Path=/", "a=b;path=/x;PATH=y", "a=b; Domain=x; Path=/", "a; Path", "=;=;=", ";", "", "a=b; Path=/p/id/x", "a=b; Path=/id",
		"a=b; Path=/; Path=", "a=b;\tDomain\t;", "__Host-a=b; Secure; Path=/", "a=b; Path=/" + strings.Repeat("x", 1020), "a=b; Path=/x; Path=/" + strings.Repeat("x", 1024)} {
		f.Add(c, "/p", "id", "")
		f.Add(c, "", "a%2Fb", "/x")
		f.Add(c, "", "id", "/")
	}
	f.Fuzz(func(t *testing.T, cookie, prefix, id, rest string) {
		rt := splitTarget(pathOf("/" + id + rest))
		if rt.kind != routeTunnel || strings.ContainsAny(prefix, ";?") || prefix != "" && prefix[0] != '/' || strings.HasSuffix(prefix, "/") || len(prefix) > 500 {
			return
		}
		iso := isolation{prefixPath: prefix}
		if strings.Trim(prefix, "\t ") != prefix {
			return // not a path that a URL can have
		}
		h := http.Header{"Set-Cookie": {cookie}}
		onHost := splitTarget(pathOf("/" + id + rest))
		onHost.ownHost = true
		iso.apply(h, onHost)
		alone := h.Get("Set-Cookie")
		wasPair, wasPath, _ := browserCookie(cookie, "/"+id+rest)
		if pair, path, domain := browserCookie(alone, "/"+id+rest); pair != wasPair || path != wasPath || domain {
			t.Errorf("on the tunnel's own host %q became %q", cookie, alone)
		}

		h = http.Header{"Set-Cookie": {cookie}}
		iso.apply(h, rt)
		got := h.Get("Set-Cookie")

		iso.apply(h, rt)
		if again := h.Get("Set-Cookie"); again != got {
			t.Errorf("%q became %q, a second time %q", cookie, got, again)
		}
		base := prefix + "/" + rt.id
		pair, path, domain := browserCookie(got, base+rt.rest)
		wantPair, wasPath, _ := browserCookie(cookie, base+rt.rest)
		if pair != wantPair {
			t.Errorf("%q: the pair became %q", cookie, pair)
		}
		if domain {
			t.Errorf("%q became %q, which has a Domain", cookie, got)
		}
		if wasPath == "/" && path != base {
			t.Errorf("%q became %q: its path is %q, which does not match %q itself", cookie, got, path, base)
		}
		if path != base && !strings.HasPrefix(path, base+"/") {
			t.Errorf("%q became %q: its path is %q, not under %q", cookie, got, path, base)
		}
	})
}
