// Package docs_test holds the documents against the tree.
package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestFilesExist: a file of the code that a document names with its directory is
// there.
func TestFilesExist(t *testing.T) {
	file := regexp.MustCompile("`((?:server|h2conn|target|tunnelclient|internal|cmd|ci|bench|conformance)/[a-z0-9_./-]+\\.(?:go|sh|txt))`")
	var docs []string
	for _, pattern := range []string{"../../docs/*.md", "../../docs/adr/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, found...)
	}
	named := 0
	for _, doc := range docs {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range file.FindAllSubmatch(text, -1) {
			named++
			if _, err := os.Stat(filepath.Join("../..", string(m[1]))); err != nil {
				t.Errorf("%s names %s: %v", doc, m[1], err)
			}
		}
	}
	if named < 50 {
		t.Errorf("only %d files are named: the pattern does not fit any more", named)
	}
}
