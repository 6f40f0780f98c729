package wire_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestCheckID(t *testing.T) {
	for _, id := range []string{
		"a", "0", "-", "_", "~", "build-42", "a.b", ".a", "a.", "...", "....", "..a", "--help", "favicon.ico",
		"team%2Fbuild", "team%2fbuild", "%00", "%20", "%ff", "%25", "%2e%2e%2e", "%2ea", "a%2e", "%2f", "%252e", "%2E%2E.", "%2e-",
		"__x__", "__heartbeat", "_heartbeat__", "__HEARTBEAT__", "__heartbeat___", "__heartbeat%5f_", "__metrics__",
		strings.Repeat("x", 255), strings.Repeat("x", 256), strings.Repeat(".", 256), strings.Repeat("%2e", 85) + "x",
	} {
		if err := wire.CheckID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}

	const (
		empty     = "empty"
		length    = "1 to 256"
		escape    = "malformed escape"
		character = "character outside"
		dot       = "dot segment"
		reserved  = "reserved"
	)
	type refusal struct{ id, rule string }
	refusals := []refusal{
		{"", empty},
		{strings.Repeat("x", 257), length},
		{strings.Repeat("%2e", 86), length},
		{strings.Repeat("x", 1<<20), length},

		{"%", escape},
		{"a%", escape},
		{"%2", escape},
		{"a%2", escape},
		{"%zz", escape},
		{"%2g", escape},
		{"%g2", escape},
		{"%%41", escape},
		{"%-1", escape},
		{"%u0041", escape},
		{"%2e%", escape},
		{strings.Repeat("x", 254) + "%2", escape},
		{strings.Repeat("x", 255) + "%", escape},

		{"a/b", character},
		{"/", character},
		{"a b", character},
		{" a", character},
		{"a ", character},
		{"a\n", character},
		{"a\r\nX: y", character},
		{"a\x00", character},
		{"\x7f", character},
		{"a?b", character},
		{"a#b", character},
		{"a;b", character},
		{"a:b", character},
		{"a@b", character},
		{"a+b", character},
		{"a&b", character},
		{"a=b", character},
		{"a,b", character},
		{`a\b`, character},
		{`a"b`, character},
		{"a'b", character},
		{"a<b", character},
		{"a|b", character},
		{"a*", character},
		{"é", character},
		{"ａ", character}, // fullwidth
		{"日本", character},
		{"\u202eab", character},
		{"\ufeffa", character},
		{"\xff", character},
		{"a\xc3", character},
	}
	// Every spelling of a dot segment: a dot, or its escape in either case.
	spellings := []string{".", "%2e", "%2E"}
	for _, a := range spellings {
		refusals = append(refusals, refusal{a, dot})
		for _, b := range spellings {
			refusals = append(refusals, refusal{a + b, dot})
		}
	}
	for _, id := range wire.ReservedIDs {
		refusals = append(refusals, refusal{id, reserved})
	}
	for _, c := range refusals {
		err := wire.CheckID(c.id)
		if err == nil || !strings.Contains(err.Error(), c.rule) {
			t.Errorf("%.300q: error is %v, want one about %q", c.id, err, c.rule)
		} else if len(err.Error()) > 2000 {
			t.Errorf("error about an id of %d bytes has %d bytes", len(c.id), len(err.Error()))
		}
	}
}

func TestReserved(t *testing.T) {
	for _, id := range []string{"__heartbeat__", "__lbheartbeat__", "__version__"} {
		if !wire.Reserved(id) {
			t.Errorf("%q is not reserved", id)
		}
	}
	for _, id := range []string{"", "__", "__x__", "__Version__", "__version__/", "%5f_version__"} {
		if wire.Reserved(id) {
			t.Errorf("%q is reserved", id)
		}
	}
}

// TestSpeaksForHost: the owner of such a name would speak for the host, and so
// for all tunnels on it.
func TestSpeaksForHost(t *testing.T) {
	for id := range strings.FieldsSeq(`
		.well-known .WELL-KNOWN %2ewell-known %2Ewell-known .well%2dknown .well%2Fknown .git .env .a ..a ... .-
		robots.txt ROBOTS.TXT robots%2etxt %72obots.txt favicon.ico favicon.svg favicon.png sitemap.xml sitemap_index.xml sitemap-1.xml sitemap.xml.gz
		sitemap.txt humans.txt llms.txt llms-full.txt ads.txt app-ads.txt sellers.json security.txt crossdomain.xml clientaccesspolicy.xml
		browserconfig.xml apple-touch-icon.png apple-touch-icon-precomposed.png apple-touch-icon-120x120.png apple-app-site-association
		google1a2b3c4d5e6f7a8b.html BingSiteAuth.xml yandex_0123456789abcdef.html pinterest-12345.html MP_verify_abcdefgh.txt ms12345678.txt
		change-password
	`) {
		if err := wire.CheckID(id); err != nil {
			t.Errorf("%q is no id: %v", id, err)
		}
		if !wire.SpeaksForHost(id) {
			t.Errorf("%q does not speak for the host", id)
		}
	}
	for id := range strings.FieldsSeq(`
		a a.b a. -.a _.well-known well-known wellknown robots robots.txt2 robots-txt my-robots.txt favicon sitemap sitemap.html icon.ico
		index.html ms1.txt google google.com googlebot yandex team%2Fbuild team%2Frobots.txt %252ewell-known apple build-42 readme.txt
	`) {
		if wire.SpeaksForHost(id) {
			t.Errorf("%q speaks for the host", id)
		}
	}
}

func FuzzCheckID(f *testing.F) {
	for _, id := range []string{"", "a", "a%2Fb", "%", "%2e.", "%2E%2e", "...", "__version__", "a\n", "é", strings.Repeat("x", 256), strings.Repeat("%41", 86)} {
		f.Add(id)
	}
	allowed := regexp.MustCompile(`^[a-zA-Z0-9_~.%-]+$`)
	escaped := regexp.MustCompile(`^([^%]|%[0-9a-fA-F]{2})*$`)
	refused := regexp.MustCompile(`^(\.|%2[eE]){1,2}$|^__(heartbeat|lbheartbeat|version)__$`)
	f.Fuzz(func(t *testing.T, id string) {
		want := len(id) <= 256 && allowed.MatchString(id) && escaped.MatchString(id) && !refused.MatchString(id)
		if err := wire.CheckID(id); (err == nil) != want {
			t.Errorf("%q: error is %v, want accepted %v", id, err, want)
		}
	})
}
