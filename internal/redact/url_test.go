package redact_test

import (
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/redact"
)

func TestURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                      "",
		"https://h:1/a%2Fb":                     "https://h:1/a%2Fb",
		"h:80":                                  "h:80",
		"https://user:canary@h/x":               "https://…@h/x",
		"https://user:can@ary@h":                "https://…@h",
		"user:canary@h:80":                      "…@h:80", // forgotten: the scheme
		"//user:canary@h":                       "//…@h",
		"http://user:can/ary@h":                 "http://…@h",
		"https://h/x?token=canary":              "https://h/x?…",
		"https://user:canary@h?token=canary@x?": "https://…@h?…",
		"ftp://user:canary@":                    "ftp://…@",
	} {
		if got := redact.URL(in); got != want {
			t.Errorf("URL(%q) = %q, want %q", in, got, want)
		}
	}
}
