package target

import (
	"bytes"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"unicode/utf8"
)

// A headerForm rewrites the URL references in a header's value. It leaves alone
// what it does not understand.
type headerForm func(value string, reference func(string) string) string

// redirectHeaders are the headers of answers whose definition says that they hold
// URL references, with their form. docs/configuration.md has the list too.
var redirectHeaders = map[string]headerForm{
	"Location":               wholeReference,
	"Content-Location":       wholeReference,
	"Refresh":                refreshReference,
	"Link":                   linkReferences,
	"Sourcemap":              wholeReference,
	"X-Sourcemap":            wholeReference,
	"Service-Worker-Allowed": wholeReference,
	"Reporting-Endpoints":    quotedReferences,
	"Speculation-Rules":      quotedReferences,
	"X-Pingback":             wholeReference,

	"Content-Security-Policy":             policyReferences,
	"Content-Security-Policy-Report-Only": policyReferences,

	// Of libraries that run in pages.
	"Hx-Location":         htmxLocation,
	"Hx-Push":             wholeReference,
	"Hx-Push-Url":         wholeReference,
	"Hx-Redirect":         wholeReference,
	"Hx-Replace-Url":      wholeReference,
	"Turbolinks-Location": wholeReference,
	"X-Ic-Pushurl":        wholeReference,
	"X-Ic-Redirect":       wholeReference,
	"X-Inertia-Location":  wholeReference,
	"X-Nextjs-Redirect":   wholeReference,
	"X-Pjax-Url":          wholeReference,
	"X-Up-Location":       wholeReference,
	"Amp-Redirect-To":     wholeReference,
}

// rewriteHeaders rewrites the URL references in h, those in further headers too.
func (w *redirectRewriter) rewriteHeaders(h http.Header) {
	for name, values := range h {
		form := redirectHeaders[name]
		if form == nil && w.further[name] {
			form = wholeReference
		}
		if form == nil {
			continue
		}
		for i, v := range values {
			values[i] = form(v, w.reference)
		}
	}
}

// wholeReference is a value that is one URL reference.
func wholeReference(value string, reference func(string) string) string { return reference(value) }

// refreshURL is the form of a Refresh header that names a URL, as browsers
// read it: what follows a quoted URL does not count.
var refreshURL = regexp.MustCompile(`(?is)^(\s*[0-9.]*(?:\s*[;,]\s*|\s+)(?:url\s*=\s*)?)("[^"]*|'[^']*|.*)(.*)$`)

// refreshReference is "5; url='/next'" (HTML, "shared declarative refresh steps").
func refreshReference(value string, reference func(string) string) string {
	m := refreshURL.FindStringSubmatch(value)
	if m == nil {
		return value
	}
	quote, ref := "", m[2]
	if ref != "" && (ref[0] == '"' || ref[0] == '\'') {
		quote, ref = ref[:1], ref[1:]
	}
	return m[1] + quote + reference(ref) + m[3]
}

// linkReferences is "</a>; rel=preload; anchor="/b", </c>" (RFC 8288, section 3).
// A preload may have candidates of images too (HTML, "link type preload").
func linkReferences(value string, reference func(string) string) string {
	var b strings.Builder
	rest := value
	for rest != "" && b.Len() <= maxHeader { // a larger one does not pass
		n := len(rest) - len(strings.TrimLeft(rest, " \t,"))
		b.WriteString(rest[:n])
		rest = rest[n:]
		if strings.HasPrefix(rest, "<") {
			ref, after, ok := strings.Cut(rest[1:], ">")
			if !ok {
				break
			}
			b.WriteString("<" + reference(ref) + ">")
			rest = after
		}
		for rest != "" && rest[0] != ',' {
			n := 1 + indexUnquoted(rest[1:], ";,")
			b.WriteString(linkParameter(rest[:n], reference))
			rest = rest[n:]
		}
	}
	return b.String() + rest
}

// linkParameter rewrites a parameter of a Link, which begins with its semicolon.
func linkParameter(param string, reference func(string) string) string {
	before, value, _ := strings.Cut(param, "=")
	form := reference
	switch strings.ToLower(strings.Trim(before, "; \t")) {
	case "anchor":
	case "imagesrcset":
		form = func(s string) string { return candidates(s, reference) }
	default:
		return param
	}
	start := len(value) - len(strings.TrimLeft(value, " \t"))
	if strings.HasPrefix(value[start:], `"`) {
		return before + "=" + quotedReferences(value, form)
	}
	end := len(strings.TrimRight(value, " \t"))
	if start >= end {
		return param
	}
	return before + "=" + value[:start] + form(value[start:end]) + value[end:]
}

// imageCandidate is one of the candidates in a srcset attribute (HTML, "parsing a
// srcset attribute"): its URL, and its descriptors.
var imageCandidate = regexp.MustCompile(`([\s,]*)([^\s,]\S*[^\s,]|[^\s,])((?:\s[^,]*)?)`)

func candidates(srcset string, reference func(string) string) string {
	return replaceGroup(imageCandidate, srcset, 2, reference)
}

// indexUnquoted returns the index in s of the first byte that is one of chars and
// stands outside of quoted strings (RFC 9110, section 5.6.4), or the length of s.
func indexUnquoted(s, chars string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '\\' && quoted:
			i++
		case !quoted && strings.IndexByte(chars, s[i]) >= 0:
			return i
		}
	}
	return len(s)
}

var quotedString = regexp.MustCompile(`"((?:[^"\\]|\\.)*)"`)

// quotedReferences is a value whose quoted strings are URL references: 'a="/x"', or
// '"/x", "/y"' (RFC 9651).
func quotedReferences(value string, reference func(string) string) string {
	return replaceGroup(quotedString, value, 1, func(s string) string {
		plain := unquote.ReplaceAllString(s, "$1")
		if ref := reference(plain); ref != plain {
			return quote.ReplaceAllString(ref, `\$0`)
		}
		return s
	})
}

var (
	unquote = regexp.MustCompile(`\\(.)`)
	quote   = regexp.MustCompile(`[\\"]`)
)

var (
	reportURI  = regexp.MustCompile(`(?i)(?:^|[;,])[ \t]*report-uri((?:[ \t]+[^ \t;,]+)*)`)
	policyWord = regexp.MustCompile(`[^ \t]+`)
)

// policyReferences is a Content-Security-Policy, where report-uri has URL
// references. What other directives have are patterns.
func policyReferences(value string, reference func(string) string) string {
	return replaceGroup(reportURI, value, 1, func(words string) string {
		return replaceGroup(policyWord, words, 0, reference)
	})
}

// replaceGroup replaces a group of each match of re in s. As the result is only to
// be too large for a header, it may end early.
func replaceGroup(re *regexp.Regexp, s string, group int, replace func(string) string) string {
	var b strings.Builder
	last := 0
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		if b.Len() > maxHeader {
			break
		}
		b.WriteString(s[last:m[2*group]] + replace(s[m[2*group]:m[2*group+1]]))
		last = m[2*group+1]
	}
	return b.String() + s[last:]
}

// htmxLocation is a URL reference, or a JSON object with one for "path" and perhaps
// others for "push" and "replace" (https://htmx.org/headers/hx-location/).
func htmxLocation(value string, reference func(string) string) string {
	if !strings.HasPrefix(strings.TrimLeft(value, " \t"), "{") {
		return reference(value)
	}
	if !json.Valid([]byte(value)) || !utf8.ValidString(value) {
		return value
	}
	var b strings.Builder
	last := 0
	dec := json.NewDecoder(strings.NewReader(value))
	var path []bool // of those that are open: true for an object
	key, wantKey := "", false
	for {
		start := dec.InputOffset()
		token, err := dec.Token()
		if err != nil {
			break
		}
		switch t := token.(type) {
		case json.Delim:
			if t == '{' || t == '[' {
				path = append(path, t == '{')
			} else {
				path = path[:len(path)-1]
			}
			wantKey = len(path) > 0 && path[len(path)-1]
			continue
		case string:
			if wantKey {
				key, wantKey = t, false
				continue
			}
			if len(path) == 1 && (key == "path" || key == "push" || key == "replace") {
				if ref := reference(t); ref != t {
					end := int(dec.InputOffset())
					b.WriteString(value[last : int(start)+strings.IndexByte(value[start:], '"')])
					b.WriteString(jsonString(ref))
					last = end
				}
			}
		}
		wantKey = len(path) > 0 && path[len(path)-1]
	}
	return b.String() + value[last:]
}

// jsonString returns s as JSON, without escapes that it does not need.
func jsonString(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""` // does not happen
	}
	return strings.TrimSuffix(b.String(), "\n")
}
