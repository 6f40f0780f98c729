package target

import "strings"

// reference returns ref, a URL reference in an answer of the target, as the viewer
// needs it: an absolute path, or a URL of the target itself, becomes a path with the
// prefix. Relative references are relative to a URL with the prefix already, and all
// others lead elsewhere.
//
// It is judged as browsers judge it (https://url.spec.whatwg.org/#url-parsing), for
// which a backslash is a slash, and tabs, and control characters at the ends, are
// nothing. What a browser alone takes for another host, such as "/\host", is the
// path that it looks like, and comes out as one for browsers too.
//
// A URL on the viewer's host stays one if it takes the viewer from http to
// https, and the target does not say https only because it speaks that itself:
// as a path it would lead the viewer in a circle.
func (w *redirectRewriter) reference(ref string) string {
	text := browserText(ref)
	scheme, rest := cutScheme(text)
	switch {
	case scheme == "":
	case scheme != "http" && scheme != "https":
		return ref
	case leadingSlashes(rest) >= 2:
	case w.scheme == "":
		return ref // what it means depends on the viewer's scheme
	case scheme == w.scheme:
		scheme = "" // "https:/x" and "https:x" are "/x" and "x" on a page with https
	}

	switch n := leadingSlashes(rest); {
	case scheme == "" && n == 0:
		return ref
	case scheme == "" && n == 1:
		if path := w.path(rest); path != rest || path != text {
			return path
		}
		return ref
	}
	authority := strings.TrimLeft(rest, `/\`)
	path := ""
	if i := strings.IndexAny(authority, `/\?#`); i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	if leadingSlashes(path) == 0 {
		path = "/" + path
	}
	switch {
	case w.own(scheme, authority, w.hosts):
	case scheme == "" && !plainAuthority(ref):
		return w.path(rest)
	default:
		return ref
	}
	if scheme == "https" && w.scheme == "http" && !w.secure && w.own(scheme, authority, w.public) {
		return "https://" + authority + w.withPrefix(path)
	}
	return w.path(path)
}

// path returns an absolute path as the viewer needs it: with the prefix, and so
// that no browser takes it for a host.
func (w *redirectRewriter) path(path string) string {
	path = w.withPrefix(path)
	if leadingSlashes(path) >= 2 {
		// A browser takes the dot away once it has found that there is no host.
		return "/." + path
	}
	return path
}

// withPrefix returns an absolute path, whose first slash may be a backslash, with
// the prefix.
func (w *redirectRewriter) withPrefix(path string) string {
	path = "/" + path[1:]
	if w.below(path) {
		return path
	}
	return w.prefix + withinRoot(path)
}

// withinRoot returns an absolute path without segments ".." that lead above its root,
// which they would leave behind a prefix.
func withinRoot(path string) string {
	rest := ""
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path, rest = path[:i], path[i:]
	}
	var kept []string
	above := false
	segments := strings.Split(strings.ReplaceAll(path[1:], `\`, "/"), "/")
	for i, s := range segments {
		dots := strings.ReplaceAll(strings.ToLower(s), "%2e", ".")
		switch {
		case dots == ".." && len(kept) > 0:
			kept = kept[:len(kept)-1]
		case dots == "..":
			above = true
		case dots == ".":
		default:
			kept = append(kept, s)
			continue
		}
		if i == len(segments)-1 {
			kept = append(kept, "") // it ends in a slash
		}
	}
	if !above {
		return path + rest
	}
	return "/" + strings.Join(kept, "/") + rest
}

// below reports whether path has the prefix already.
func (w *redirectRewriter) below(path string) bool {
	rest, ok := strings.CutPrefix(path, w.prefix)
	return ok && (rest == "" || strings.IndexByte(`/\?#`, rest[0]) >= 0)
}

// own reports whether authority, in a URL of this scheme, "" being the viewer's, is
// one of hosts. One with a user or password is not.
func (w *redirectRewriter) own(scheme, authority string, hosts []string) bool {
	if scheme == "" {
		scheme = w.scheme
	}
	for _, h := range hosts {
		if sameHost(authority, h, scheme) {
			return true
		}
	}
	return false
}

// browserText returns what a browser parses of a URL reference.
func browserText(s string) string {
	s = strings.TrimFunc(s, func(r rune) bool { return r <= ' ' })
	return noLineBreaks.Replace(s)
}

var noLineBreaks = strings.NewReplacer("\t", "", "\n", "", "\r", "")

// cutScheme cuts the scheme, which it returns in lower case, from a URL reference.
// It returns "" if there is none.
func cutScheme(s string) (scheme, rest string) {
	before, rest, ok := strings.Cut(s, ":")
	scheme = strings.ToLower(before)
	if !ok || scheme == "" || scheme[0] < 'a' || scheme[0] > 'z' || strings.Trim(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+-.") != "" {
		return "", s
	}
	return scheme, rest
}

// leadingSlashes returns how many slashes s begins with, for a browser.
func leadingSlashes(s string) int { return len(s) - len(strings.TrimLeft(s, `/\`)) }

// plainAuthority reports whether everybody, and not browsers alone, takes ref, which
// has no scheme, for one with a host.
func plainAuthority(ref string) bool {
	return strings.HasPrefix(ref, "//") && leadingSlashes(ref) == 2 && strings.TrimRight(ref, " ") == browserText(ref)
}
