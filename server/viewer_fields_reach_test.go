package server

import (
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// fieldDecisions returns testdata/http-fields.txt: what is decided about each field.
func fieldDecisions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/http-fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	decisions := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] != "#" {
			if decisions[f[0]] != "" {
				t.Errorf("%s is there twice", f[0])
			}
			decisions[f[0]] = f[1]
		}
	}
	if len(decisions) < 300 {
		t.Fatalf("only %d fields", len(decisions))
	}
	return decisions
}

// TestFieldsOfAnswers sends each field there is through what an answer of a target
// goes through, and looks at what has been decided about it.
func TestFieldsOfAnswers(t *testing.T) {
	passes := map[string]struct{ path, host, off bool }{
		"answer":     {true, true, true},
		"origin":     {false, true, true},
		"proxy":      {false, false, false},
		"connection": {false, false, false},
		"cookie":     {false, false, true},
	}
	for name, decision := range fieldDecisions(t) {
		want, ok := passes[decision]
		if !ok {
			t.Errorf("%s: there is no decision %q", name, decision)
		}
		for mode, c := range map[string]struct {
			iso  isolation
			host bool
			want bool
		}{
			"path mode":     {isolation{}, false, want.path},
			"host mode":     {isolation{}, true, want.host},
			"isolation off": {isolation{off: true}, false, want.off},
		} {
			h := http.Header{}
			h.Set(name, "x")
			cleanHeader(h)
			c.iso.apply(h, route{kind: routeTunnel, id: "id", ownHost: c.host})
			if got := len(h) == 1; got != c.want {
				t.Errorf("%s, %s: passes %t, want %t", name, mode, got, c.want)
			}
		}
		trailer := http.Header{http.CanonicalHeaderKey(name): {"x"}}
		if checkTrailer(trailer); len(trailer) > 0 && decision != "answer" {
			t.Errorf("%s passes as a trailer", name)
		}
	}
}

// TestFieldsInDocument holds docs/security.md and the code's lists together: each
// name that the code knows is in the table there, in the row that says what becomes
// of it, and the table has no other.
func TestFieldsInDocument(t *testing.T) {
	text, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	code := make(map[reach][]string)
	for name, r := range reachByName {
		code[r] = append(code[r], name)
	}
	for _, p := range reachByPrefix {
		code[p.reach] = append(code[p.reach], p.prefix+"*")
	}
	code[reachProxy] = append(code[reachProxy], "*"+cdnCacheControl)

	document := make(map[reach][]string)
	rows := map[string]reach{"removed in path mode": reachOrigin, "always removed": reachProxy}
	name := regexp.MustCompile("`([A-Za-z0-9*-]+)`")
	_, table, _ := strings.Cut(string(text), "\n## Fields of answers\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		r, ok := rows[strings.TrimSpace(cells[2])]
		if !ok {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(cells[1], -1) {
			document[r] = append(document[r], http.CanonicalHeaderKey(m[1]))
		}
	}
	for _, r := range rows {
		slices.Sort(code[r])
		slices.Sort(document[r])
		for _, n := range code[r] {
			if !slices.Contains(document[r], n) {
				t.Errorf("the document does not have %s", n)
			}
		}
		for _, n := range document[r] {
			if !slices.Contains(code[r], n) {
				t.Errorf("the code does not have %s", n)
			}
		}
	}
}

// TestForgedProxyStatus: nobody but the service speaks for it and its tunnel clients.
func TestForgedProxyStatus(t *testing.T) {
	for name, c := range map[string]struct {
		values []string
		passes bool
	}{
		"of another proxy":  {[]string{"nginx.example; error=connection_refused"}, true},
		"the service's":     {[]string{"websocktunnel; error=connection_refused"}, false},
		"a tunnel client's": {[]string{"websocktunnel-client; error=connection_refused"}, false},
		"as a string":       {[]string{`"websocktunnel"; error=connection_refused`}, false},
		"in a list":         {[]string{"nginx.example, websocktunnel;error=dns_error"}, false},
		"in a second line":  {[]string{"nginx.example", "WebSockTunnel"}, false},
	} {
		for where, check := range map[string]func(http.Header){
			"header":  cleanHeader,
			"trailer": checkTrailer,
			"switch": func(h http.Header) {
				if err := checkAnswer(&http.Response{StatusCode: http.StatusSwitchingProtocols, Header: h}); err != nil {
					t.Error(err)
				}
			},
		} {
			h := http.Header{"Proxy-Status": c.values}
			if check(h); (len(h) == 1) != c.passes {
				t.Errorf("%s, %s: passes %t", name, where, len(h) == 1)
			}
		}
	}
}
