package clients

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
)

// TestPython: the standard library's http.client and urllib.
func TestPython(t *testing.T) {
	python := program(t, "python3")
	table.Program("Python", version(t, python, "--version"))
	ca := caFile(t)
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, overTLS, site())
			direct := run(t, nil, "", python, "testdata/viewer.py", p.direct, ca)
			tunnelled := run(t, nil, "", python, "testdata/viewer.py", p.tunnelled, ca)
			compareLines(t, "Python", name, p, direct, tunnelled, 40)
		})
	}
}

// compareLines compares what two runs of a viewer printed: a line for each
// exchange, and at least so many.
func compareLines(t *testing.T, program, with string, p pair, direct, tunnelled output, least int) {
	t.Helper()
	if direct.code != 0 || tunnelled.code != 0 {
		t.Fatalf("exit %d through the tunnel:\n%.3000s\nexit %d directly:\n%.3000s\nafter\n%s", tunnelled.code, tunnelled.stderr, direct.code, direct.stderr, direct.stdout[max(0, len(direct.stdout)-300):])
	}
	d, g := strings.Split(strings.TrimSpace(direct.stdout), "\n"), strings.Split(strings.TrimSpace(tunnelled.stdout), "\n")
	if len(d) != len(g) || len(g) < least {
		t.Fatalf("%d exchanges through the tunnel, %d directly", len(g), len(d))
	}
	for i := range d {
		p.compare(t, d[i], g[i])
		var line struct {
			Exchange string
			Status   int
		}
		if err := json.Unmarshal([]byte(d[i]), &line); err != nil {
			t.Fatal(err)
		}
		result := "done"
		if line.Status != 0 {
			result = strconv.Itoa(line.Status)
		}
		table.Passed(t, program, line.Exchange, with, result, harness.Same)
	}
}
