package main

import (
	"strings"
	"testing"
)

// TestPrintedURL: on a terminal, where people click, the URL has a slash, so that
// a page's relative links stay in the tunnel. Programs get what they always got.
func TestPrintedURL(t *testing.T) {
	for _, tc := range []struct {
		terminal, json bool
		want           string
	}{
		{false, false, "https://t.example/id\n"},
		{false, true, `{"url":"https://t.example/id"}` + "\n"},
		{true, false, "https://t.example/id/\n"},
		{true, true, `{"url":"https://t.example/id"}` + "\n"},
	} {
		var b strings.Builder
		a := announcer{stdout: &b, terminal: tc.terminal, json: tc.json}
		if err := a.print("https://t.example/id"); err != nil || b.String() != tc.want {
			t.Errorf("terminal %v, JSON %v: printed %q, %v, want %q", tc.terminal, tc.json, &b, err, tc.want)
		}
	}
}
