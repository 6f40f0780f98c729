package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLinks: what a document links to in this repository is there, down to the
// heading.
func TestLinks(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../docs/adr/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	link := regexp.MustCompile(`\]\(([^)\s]*)\)`)
	links := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, ":") {
				continue
			}
			links++
			to := page
			if file != "" {
				to = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s links to %s: %v", page, m[1], err)
			} else if anchor != "" && strings.HasSuffix(to, ".md") && !anchors(t, to)[anchor] {
				t.Errorf("%s links to %s, and there is no such heading", page, m[1])
			}
		}
	}
	if links < 200 {
		t.Errorf("only %d links: the pattern does not fit any more", links)
	}
}

var (
	heading     = regexp.MustCompile(`(?m)^#{1,6} (.*)$`)
	punctuation = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	known       = make(map[string]map[string]bool)
)

// anchors returns those of a page's headings, as GitHub makes them.
func anchors(t *testing.T, page string) map[string]bool {
	t.Helper()
	if known[page] == nil {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		known[page] = make(map[string]bool)
		for _, m := range heading.FindAllStringSubmatch(string(text), -1) {
			known[page][strings.ReplaceAll(punctuation.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
		}
	}
	return known[page]
}
