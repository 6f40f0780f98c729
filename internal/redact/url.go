package redact

import "strings"

// URL returns s, which is a URL or was meant to be one, without user, password
// and query. It takes s for what it looks like: [net/url.URL.Redacted] knows
// no password in "user:password@host", where the scheme was forgotten.
func URL(s string) string {
	s, _, query := strings.Cut(s, "?")
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		start := 0
		if i := strings.Index(s[:at], "//"); i >= 0 {
			start = i + len("//")
		}
		s = s[:start] + gone + s[at:]
	}
	if query {
		s += "?" + gone
	}
	return s
}
