package target_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/target"
)

// browserURL returns the host and the path, with query and fragment, of the page to
// which a browser goes from a page of base, "http://host", by ref: a parser for
// http and https as https://url.spec.whatwg.org/#url-parsing has it, step by step,
// but for the encoding of characters. For other schemes host is ref.
func browserURL(base, ref string) (host, path string) {
	baseScheme, baseHost, _ := strings.Cut(base, "://")
	ref = strings.TrimFunc(ref, func(r rune) bool { return r <= ' ' })
	ref = strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r == '\r' {
			return -1
		}
		return r
	}, ref)
	slash := func(s string, i int) bool { return i < len(s) && (s[i] == '/' || s[i] == '\\') }

	scheme, rest := "", ref
	for i, c := range []byte(ref) { // scheme start state, scheme state
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' && c >= 'A'
		if c == ':' && i > 0 {
			scheme, rest = strings.ToLower(ref[:i]), ref[i+1:]
		}
		if !letter && (i == 0 || strings.IndexByte("0123456789+-.", c) < 0) {
			break
		}
	}
	authority := false
	switch {
	case scheme != "" && scheme != "http" && scheme != "https":
		return ref, ""
	case scheme == "", scheme == baseScheme: // no scheme, special relative or authority, relative and relative slash state
		authority = slash(rest, 0) && slash(rest, 1)
	default: // special authority slashes state
		authority = true
	}
	if authority { // special authority ignore slashes state, authority state, host state
		for slash(rest, 0) {
			rest = rest[1:]
		}
		end := strings.IndexAny(rest, `/\?#`)
		if end < 0 {
			end = len(rest)
		}
		host, rest = rest[:end], rest[end:]
		host = strings.ToLower(host[strings.LastIndexByte(host, '@')+1:])
	} else {
		host = baseHost
	}
	if !authority && !slash(rest, 0) {
		return host, "relative " + rest
	}
	before, after := rest, ""
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		before, after = rest[:i], rest[i:]
	}
	before = strings.ReplaceAll(before, `\`, "/")
	var segments []string // path state
	for i, s := range strings.Split(strings.TrimPrefix(before, "/"), "/") {
		last := i == strings.Count(strings.TrimPrefix(before, "/"), "/")
		dots := strings.ReplaceAll(strings.ToLower(s), "%2e", ".")
		switch {
		case dots == ".." && len(segments) > 0:
			segments = segments[:len(segments)-1]
		case dots == "..", dots == ".":
		default:
			segments = append(segments, s)
			continue
		}
		if last {
			segments = append(segments, "")
		}
	}
	return host, "/" + strings.Join(segments, "/") + after
}

// TestRewriteRedirectsAsBrowsers: a reference was judged as RFC 3986 has it, so that
// "http://127.0.0.1:3000/\evil.example" became "/\evil.example", which browsers take
// for another host.
func TestRewriteRedirectsAsBrowsers(t *testing.T) {
	t.Parallel()
	starts := []string{"/", "\\", "//", "///", "/\\", "\\/", "\\\\", "/\t/", "\t//", "/ /", "/.//", "/./\\", "/..//", "/%2e%2e//", "/a/.././%2E./\\..", "//\t", "/\x01/", "?//", "#//", ""}
	var paths []string
	for _, s := range starts {
		paths = append(paths, s+"evil.example/x", s+"user@evil.example", s+"evil.example:80\\x", s)
	}
	own := []string{"http://127.0.0.1:3000", "HTTP://LOCALHOST:3000", "http:\\\\[::1]:3000", "http:////0.0.0.0:3000", "ht\ttp://local\thost:3000", " http://localhost:3000", "\x00\x1fhttp:/\\localhost:3000", "//localhost:3000", "\\/localhost:3000", "https://t.example", "https:\\t.example"}
	elsewhere := []string{"//evil.example", "//evil.example/x", "http://evil.example", "https://evil.example:444/\\x", "http:\\\\evil.example", "http:evil.example", "http:/evil.example", "http://localhost:3000@evil.example/", "http://localhost:3000.evil.example", "http://localhost:30000/", "mailto:x", "javascript:/x", "//t.example:81/x", "//user@t.example/x"}
	const base = "https://t.example"
	for _, prefix := range []string{"", "/id"} {
		rewrite := func(ref string) (got string) {
			h := http.Header{"Location": {ref}, "Link": {"<" + ref + ">"}, "Hx-Redirect": {ref}, "Content-Location": {ref}}
			target.RewriteRedirects(redirected(prefix, "https"), h)
			got = h.Get("Location")
			if h.Get("Link") != "<"+got+">" || h.Get("Hx-Redirect") != got || h.Get("Content-Location") != got {
				t.Errorf("%q behind %q became %q", ref, prefix, h)
			}
			return got
		}
		for _, path := range paths {
			// A path without a host, which only a browser may take for one.
			if _, _, hasScheme := strings.Cut(path, ":"); !strings.HasPrefix(path, "//evil") && !strings.HasPrefix(path, "//user") && path != "//" && (path == "" || path[0] != 'e' || !hasScheme) {
				if host, where := browserURL(base, rewrite(path)); host != "t.example" {
					t.Errorf("%q behind %q became %q, on host %q at %q", path, prefix, rewrite(path), host, where)
				}
			}
			for _, o := range own {
				if path != "" && !strings.ContainsRune(`/\?#`, rune(path[0])) {
					continue // a part of the host
				}
				got := rewrite(o + path)
				host, where := browserURL(base, got)
				_, asked := browserURL(base, o+path)
				if host != "t.example" || where != prefix+asked {
					t.Errorf("%q behind %q became %q, on host %q at %q, want %q", o+path, prefix, got, host, where, prefix+asked)
				}
			}
		}
		for _, ref := range elsewhere {
			if got := rewrite(ref); got != ref {
				t.Errorf("%q behind %q became %q", ref, prefix, got)
			}
		}
	}
	for _, tt := range []struct{ scheme, ref, host, path string }{
		{"https", "https:/x", "", "/x"}, {"https", "https:\\x", "", "/x"}, {"https", "https:x", "", "https:x"}, {"http", "https:t.example/x", "https://t.example", "/x"}, {"http", "https:/\\t.example", "https://t.example", "/"},
	} {
		for _, prefix := range []string{"", "/id"} {
			h := http.Header{"Location": {tt.ref}}
			want := tt.host + prefix + tt.path
			if tt.ref == tt.path {
				want = tt.ref
			}
			if target.RewriteRedirects(redirected(prefix, tt.scheme), h); h.Get("Location") != want {
				t.Errorf("%q behind %q, from %s: %q, want %q", tt.ref, prefix, tt.scheme, h.Get("Location"), want)
			}
		}
	}
}

// redirected is a request to a target at localhost:3000, which viewers see at
// t.example.
func redirected(prefix, scheme string) *http.Request {
	r := httptest.NewRequest("GET", "http://localhost:3000/x", nil)
	r.Host = "t.example"
	r.Header = http.Header{"X-Forwarded-Prefix": {prefix}, "X-Forwarded-Host": {"t.example"}, "X-Forwarded-Proto": {scheme}}
	return r
}

// FuzzRewriteRedirects: to rewrite twice is the same as once, and what comes out
// leads a browser to the viewer's host, unless it is as it came in and leads
// everybody elsewhere.
func FuzzRewriteRedirects(f *testing.F) {
	for _, ref := range []string{
		"/", "/id", "/id/x", "/idx", "//t.example/x", "//evil.example/", "///x", `/\evil.example`, "http://localhost:3000", "http://localhost:3000//evil.example",
		"https://t.example?x", "http://t.example:80/%zz", "5; url='/x'", "x", "",
	} {
		f.Add(ref, false)
		f.Add(ref, true)
	}
	f.Fuzz(func(t *testing.T, ref string, ownHost bool) {
		prefix := "/id"
		if ownHost {
			prefix = ""
		}
		r := redirected(prefix, "http")
		h := http.Header{"Location": {ref}, "Content-Location": {ref}, "Refresh": {ref, "0;url=" + ref}, "Set-Cookie": {"a=b; Path=" + ref, ref}}
		for _, name := range []string{"Link", "Hx-Location", "Content-Security-Policy", "Reporting-Endpoints", "Speculation-Rules"} {
			h[name] = []string{ref, "<" + ref + ">; anchor=\"" + ref + "\"", `{"path":"` + ref + `"}`, "report-uri " + ref}
		}
		target.RewriteRedirects(r, h)
		once := h.Clone()
		target.RewriteRedirects(r, h)
		if !maps.EqualFunc(h, once, slices.Equal) {
			t.Errorf("%q behind %q: once %q, twice %q", ref, prefix, once, h)
		}
		got := once.Get("Location")
		host, _ := browserURL("http://t.example", got)
		_, _, hasScheme := strings.Cut(ref, ":")
		if host != "t.example" && (got != ref || !hasScheme && !strings.HasPrefix(ref, "//")) {
			t.Errorf("%q behind %q became %q, on host %q", ref, prefix, got, host)
		}
	})
}
