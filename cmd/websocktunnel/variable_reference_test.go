package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the reference in docs/ anew")

// TestReference holds the table of all settings in docs/configuration.md against
// variables. "go test ./cmd/websocktunnel -run Reference -update" writes it anew. Each
// one is also explained elsewhere on the page.
func TestReference(t *testing.T) {
	const path = "../../docs/configuration.md"
	const begin, end = "<!-- settings: made by go test ./cmd/websocktunnel -run Reference -update -->\n", "<!-- end of settings -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), begin)
	had, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the reference", path)
	}
	want := reference()
	if had != want && *update {
		err = os.WriteFile(path, []byte(before+begin+want+end+after), 0o644)
	} else if had != want {
		t.Errorf("%s is not current: go test ./cmd/websocktunnel -run Reference -update", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range variables {
		short := strings.TrimPrefix(v.name, "TASKCLUSTER_PROXY_SECRET") // `…_A` and `_B`
		if !strings.Contains(before+after, "`"+v.name+"`") && !strings.Contains(before+after, "`"+short+"`") {
			t.Errorf("%s explains %s nowhere", path, v.name)
		}
	}
}

// reference returns the table.
func reference() string {
	var b strings.Builder
	category := ""
	for _, v := range variables {
		if v.category != category {
			category = v.category
			fmt.Fprintf(&b, "\n**%s**\n\n| Variable and flag | Meaning | Default | Reload |\n|---|---|---|---|\n", category)
		}
		names := fmt.Sprintf("`%s`, `--%s`", v.name, flagName(v.name))
		if v.secret {
			names += fmt.Sprintf("; `%s`, `--%s`", v.name+fileSuffix, flagName(v.name+fileSuffix))
		}
		reload := "restart"
		if v.live {
			reload = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", names, cell(v.usage), cell(v.def), reload)
	}
	return b.String() + "\n"
}

// cell returns a text of the help for a cell of the table.
func cell(text string) string {
	return strings.NewReplacer(
		"`", "", // the names of values
		" See docs/configuration.md.", "", "docs/operating.md", "[operating.md](operating.md)",
		"|", "\\|", "https://<label>.tunnels.example.com", "`https://<label>.tunnels.example.com`", "/<id>/", "`/<id>/`",
	).Replace(text)
}
