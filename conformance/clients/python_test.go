package clients

import (
	"strings"
	"testing"
)

// TestPython: the standard library's http.client and urllib.
func TestPython(t *testing.T) {
	python := program(t, "python3")
	ca := caFile(t)
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, overTLS, site())
			direct := run(t, nil, "", python, "testdata/viewer.py", p.direct, ca)
			tunnelled := run(t, nil, "", python, "testdata/viewer.py", p.tunnelled, ca)
			compareLines(t, p, direct, tunnelled, 40)
		})
	}
}

// compareLines compares what two runs of a viewer printed: a line for each
// exchange, and at least so many.
func compareLines(t *testing.T, p pair, direct, tunnelled output, least int) {
	t.Helper()
	if direct.code != 0 || tunnelled.code != 0 {
		t.Fatalf("exit %d through the tunnel:\n%.3000s\nexit %d directly:\n%.3000s", tunnelled.code, tunnelled.stderr, direct.code, direct.stderr)
	}
	d, g := strings.Split(direct.stdout, "\n"), strings.Split(tunnelled.stdout, "\n")
	if len(d) != len(g) || len(g) < least {
		t.Fatalf("%d exchanges through the tunnel, %d directly", len(g), len(d))
	}
	for i := range d {
		p.compare(t, d[i], g[i])
	}
}
