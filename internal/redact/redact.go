// Package redact takes out of the texts of other packages what they may hold of
// somebody's request: Go's own packages quote header lines, paths and values of
// panics in their errors, and a secret in one of them would be in the log.
package redact

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

const (
	// maxText and maxStack bound the rest, in bytes.
	maxText  = 1 << 10
	maxStack = 16 << 10

	gone = "…"
)

// quoted matches what %q and %#q make, and a quote that is not closed.
var quoted = regexp.MustCompile("(?s)\"(?:[^\"\\\\]|\\\\.)*(?:\"|\\\\?$)|`[^`]*(?:`|$)")

// raw matches the beginnings of errors after which net/textproto writes a line
// as it came.
var raw = regexp.MustCompile(`(malformed MIME header(?: initial)? line: )(?s:.*)`)

// Error returns the text of err for a log: see [Text]. Nil has none.
func Error(err error) string {
	if err == nil {
		return ""
	}
	return Text(err.Error())
}

// Text returns s for a log: without anything that it quotes, or that stands where Go's
// packages put what a peer has sent, and of bounded length. Of a panic that
// net/http or x/net/http2 reports the stack stays, and the value only if the
// runtime made it.
func Text(s string) string {
	s = strings.TrimSpace(s)
	if head, value, stack, ok := cutPanic(s); ok {
		if !strings.HasPrefix(value, "runtime error: ") && !strings.HasPrefix(value, "interface conversion: ") || strings.Contains(value, "\n") {
			value = "(a value that may hold parts of the request)"
		}
		return head + shorten(value, maxText) + shorten(stack, maxStack)
	}
	s = raw.ReplaceAllString(s, "${1}"+gone)
	return shorten(quoted.ReplaceAllString(s, `"`+gone+`"`), maxText)
}

// cutPanic splits the lines about a panic, "http: panic serving
// 192.0.2.1:1234: value" and the stack.
func cutPanic(s string) (head, value, stack string, ok bool) {
	const serving, goroutine = "panic serving ", "\ngoroutine "
	head, rest, ok := strings.Cut(s, serving)
	if !ok || strings.ContainsAny(head, "\n\"") {
		return "", "", "", false
	}
	addr, value, ok := strings.Cut(rest, ": ")
	if !ok || len(addr) > 100 {
		addr, value = gone, rest
	}
	// The last one: the value may pretend to be a stack.
	if i := strings.LastIndex(value, goroutine); i >= 0 {
		value, stack = value[:i], value[i:]
	}
	return head + serving + addr + ": ", value, stack, true
}

// shorten cuts s to at most limit bytes.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := limit
	for end > limit-utf8.UTFMax && !utf8.RuneStart(s[end]) { // not far: it may be no UTF-8
		end--
	}
	return s[:end] + gone
}
