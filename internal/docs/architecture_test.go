package docs_test

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const architecture = "../../docs/architecture.md"

// TestEveryFileIsNamed: docs/architecture.md says of each file of the four packages
// what it is for.
func TestEveryFileIsNamed(t *testing.T) {
	text, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"server", "h2conn", "target", "tunnelclient"} {
		files, err := filepath.Glob("../../" + dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		if len(files) < 10 {
			t.Errorf("%s has %d files", dir, len(files))
		}
		for _, file := range files {
			name := dir + "/" + filepath.Base(file)
			if !strings.HasSuffix(name, "_test.go") && !bytes.Contains(text, []byte("`"+name+"`")) {
				t.Errorf("docs/architecture.md does not name %s: add it where it belongs", name)
			}
		}
	}
}

// TestStepsExist: each way through the code has at most ten steps, and the function
// that a step names is in its file.
func TestStepsExist(t *testing.T) {
	text, err := os.ReadFile(architecture)
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("^\\| ([0-9]+) \\| `([a-z0-9_/]+\\.go)` `(\\w+)`(?:, `(\\w+)`)? \\|")
	ways, steps := 0, -1 // -1: not in a table of steps
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "| | Where |"):
			ways, steps = ways+1, 0
			continue
		case !strings.HasPrefix(line, "|"):
			steps = -1
		}
		if steps < 0 || strings.HasPrefix(line, "|---") {
			continue
		}
		steps++
		m := row.FindStringSubmatch(line)
		if m == nil || m[1] != strconv.Itoa(steps) || steps > 10 {
			t.Errorf("want a number from 1 to 10, a file and a function in it: %s", line)
			continue
		}
		code, err := os.ReadFile(filepath.Join("../..", m[2]))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, name := range m[3:] {
			if name != "" && !regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?`+name+`\(`).Match(code) {
				t.Errorf("%s has no function %s", m[2], name)
			}
		}
	}
	if ways != 6 {
		t.Errorf("%d ways through the code, want 6", ways)
	}
}
