package redact_test

import (
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/redact"
)

func TestText(t *testing.T) {
	stack := "\ngoroutine 7 [running]:\nnet/http.(*conn).serve.func1()\n\t/go/src/net/http/server.go:1947 +0xbe"
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", ""},
		{"plain", "dial tcp 127.0.0.1:80: connect: connection refused\n", "dial tcp 127.0.0.1:80: connect: connection refused"},
		{"quoted", `malformed HTTP response "Set-Cookie: canary"`, `malformed HTTP response "…"`},
		{"quotes in quotes", `invalid "a\"canary\"b" and "canary"; rest`, `invalid "…" and "…"; rest`},
		{"escaped backslash", `x "a\\" plain "canary"`, `x "…" plain "…"`},
		{"open quote", `cut off "canary`, `cut off "…"`},
		{"backslash and line break", "x \"can\\\nary\" rest", `x "…" rest`},
		{"open quote and backslash", `cut off "canary\`, `cut off "…"`},
		{"back quotes", "bad `canary` and `canary", "bad \"…\" and \"…\""},
		{"header line", "net/http: HTTP/1.x transport connection broken: malformed MIME header line: Set-Cookie canary\nmore canary",
			"net/http: HTTP/1.x transport connection broken: malformed MIME header line: …"},
		{"first header line", "malformed MIME header initial line:  canary", "malformed MIME header initial line: …"},
		{"panic", "http: panic serving 127.0.0.1:1: canary" + stack, "http: panic serving 127.0.0.1:1: (a value that may hold parts of the request)" + stack},
		{"panic over lines", "http2: panic serving [::1]:1: runtime error: x\ncanary" + stack, "http2: panic serving [::1]:1: (a value that may hold parts of the request)" + stack},
		{"panic that pretends", "http: panic serving 127.0.0.1:1: a\ngoroutine 1 canary" + stack, "http: panic serving 127.0.0.1:1: (a value that may hold parts of the request)" + stack},
		{"panic of the runtime", "http: panic serving 127.0.0.1:1: runtime error: index out of range [5] with length 3" + stack,
			"http: panic serving 127.0.0.1:1: runtime error: index out of range [5] with length 3" + stack},
		{"panic in a quote", `error "panic serving canary: canary"`, `error "…"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := redact.Text(tc.in); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	if got := redact.Text(strings.Repeat("ä", 100_000)); len(got) > 2000 {
		t.Errorf("%d bytes are left of a long text", len(got))
	}
}

func TestError(t *testing.T) {
	if got := redact.Error(nil); got != "" {
		t.Errorf("nil gives %q", got)
	}
	err := fmt.Errorf("reading: %w", textproto.ProtocolError("malformed MIME header line: canary"))
	if got := redact.Error(errors.Join(err, fmt.Errorf("header %q", "canary"))); strings.Contains(got, "canary") {
		t.Errorf("got %q", got)
	}
}

// FuzzText: what is quoted is gone, whatever is in it and around it, and what is
// left is short and no longer changes.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "x", `a"b`, `\`, "\n", "`", "panic serving x: ", "\ngoroutine 1 [", "malformed MIME header line: x", "\xff"} {
		f.Add("before ", s, " after")
	}
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		const canary = "cAnArY-42"
		if strings.Contains(before+after, canary) || strings.ContainsAny(before, "\"`") {
			return
		}
		for _, text := range []string{
			fmt.Sprintf("%s%q%s", before, secret+canary, after),
			fmt.Sprintf("http: panic serving 127.0.0.1:1: %s%s\ngoroutine 1 [running]:\n", secret, canary),
			"malformed MIME header line: " + secret + canary,
		} {
			got := redact.Text(text)
			if strings.Contains(got, canary) && !strings.HasPrefix(secret, "runtime error: ") && !strings.HasPrefix(secret, "interface conversion: ") {
				t.Errorf("%q became %q", text, got)
			}
			if len(got) > 20<<10 {
				t.Errorf("%d bytes are left", len(got))
			}
			if again := redact.Text(got); len(got) < 1000 && again != got {
				t.Errorf("%q became %q, a second time %q", text, got, again)
			}
		}
	})
}
