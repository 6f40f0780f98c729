package harness

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

var updateTable = flag.Bool("update-table", false, "rewrite this package's table in docs/conformance.md")

// Same is what a table says of a tunnel that changes nothing.
const Same = "the same"

// Table is what the tests of one package have found to work, directly and
// through tunnels. It is a section of docs/conformance.md: the flag
// -update-table writes it there, and a run of all tests without that flag fails
// if the section has rows for other exchanges. Tests report to a Table only what they have
// compared; if one fails, neither happens. Its methods are safe for concurrent use.
type Table struct {
	// Name is in the comments around the section.
	Name string

	mu       sync.Mutex
	versions map[string]string
	rows     map[[2]string]*[3]cell
	text     []string
}

// cell is the set of what was reported for it.
type cell map[string]bool

func (c cell) String() string { return strings.Join(slices.Sorted(maps.Keys(c)), ", ") }

// Program says which version of a program was found.
func (tb *Table) Program(name, version string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.versions == nil {
		tb.versions = make(map[string]string)
	}
	tb.versions[name] = version
}

// Row says that a program's exchange was made, with what (versions of HTTP,
// targets, …), and what came of it directly and through a tunnel. Reports of
// one exchange make one row; empty values add nothing.
func (tb *Table) Row(program, exchange, with, direct, tunnelled string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.rows == nil {
		tb.rows = make(map[[2]string]*[3]cell)
	}
	key := [2]string{program, exchange}
	row := tb.rows[key]
	if row == nil {
		row = &[3]cell{{}, {}, {}}
		tb.rows[key] = row
	}
	for i, v := range []string{with, direct, tunnelled} {
		if v != "" {
			row[i][v] = true
		}
	}
}

// Passed adds a row when the test ends, unless it has failed or was skipped.
func (tb *Table) Passed(t testing.TB, program, exchange, with, direct, tunnelled string) {
	t.Cleanup(func() {
		if !t.Failed() && !t.Skipped() {
			tb.Row(program, exchange, with, direct, tunnelled)
		}
	})
}

// Append adds Markdown that follows the table.
func (tb *Table) Append(markdown string) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if !slices.Contains(tb.text, markdown) { // with -count
		tb.text = append(tb.text, markdown)
	}
}

// Around returns m with the table's part after it, for goleak.VerifyTestMain.
func (tb *Table) Around(m *testing.M) interface{ Run() int } { return around{tb, m} }

type around struct {
	tb *Table
	m  *testing.M
}

func (a around) Run() int {
	code := a.m.Run()
	if code != 0 {
		return code
	}
	if err := a.tb.finish(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// complete reports whether all of the package's tests were asked for.
func complete() bool {
	for _, name := range []string{"test.run", "test.skip", "test.list", "test.short"} {
		if v := flag.Lookup(name).Value.String(); v != "" && v != "false" {
			return false
		}
	}
	return true
}

// finish writes the table into the document, or compares them.
func (tb *Table) finish() error {
	switch {
	case complete():
	case *updateTable:
		return errors.New("-update-table takes a run of all tests")
	default:
		return nil
	}
	path := filepath.Join("..", "..", "docs", "conformance.md")
	doc, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	updated, err := tb.section(string(doc), *updateTable || os.Getenv("CI") != "")
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if *updateTable {
		return os.WriteFile(path, []byte(updated), 0o644)
	}
	if rowsOf(string(doc)) != rowsOf(updated) {
		return fmt.Errorf("the table of %s in %s lacks exchanges that these tests report, or has others; "+
			"in conformance/, go test -p 1 ./... -update-table writes it", tb.Name, path)
	}
	return nil
}

// section returns doc with this table in its place. Unless all programs have
// run, the rows of those that have not stay.
func (tb *Table) section(doc string, all bool) (string, error) {
	begin, end := fmt.Sprintf("<!-- table of %s -->\n", tb.Name), fmt.Sprintf("<!-- end of %s -->\n", tb.Name)
	before, rest, ok1 := strings.Cut(doc, begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		return "", fmt.Errorf("no table of %s", tb.Name)
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	ran := make(map[string]bool)
	var rows []string
	for key, row := range tb.rows {
		ran[key[0]] = true
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s |",
			escape(key[0]), escape(key[1]), escape(row[0].String()), escape(row[1].String()), escape(row[2].String())))
	}
	oldTable, _, _ := strings.Cut(strings.Trim(afterFirst(old, "\n\n"), "\n"), "\n\n")
	for i, line := range strings.Split(oldTable, "\n") {
		program, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		if !all && i > 1 && ok && !ran[program] {
			rows = append(rows, line)
		}
	}
	slices.Sort(rows)

	var b strings.Builder
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(tb.versions)) {
		versions = append(versions, name+" "+tb.versions[name])
	}
	fmt.Fprintf(&b, "Last written on %s with %s, %s.\n\n", runtime.GOOS, runtime.Version(), strings.Join(versions, ", "))
	b.WriteString("| program | exchange | with | direct | through a tunnel |\n|---|---|---|---|---|\n")
	for _, row := range rows {
		b.WriteString(row + "\n")
	}
	for _, text := range slices.Sorted(slices.Values(tb.text)) {
		b.WriteString("\n" + strings.Trim(text, "\n") + "\n")
	}
	return before + begin + b.String() + end + after, nil
}

func afterFirst(s, sep string) string {
	_, rest, _ := strings.Cut(s, sep)
	return rest
}

// rowsOf returns the first two cells of each row: what was done, and by whom.
// The rest may differ with the versions of programs.
func rowsOf(doc string) string {
	var b strings.Builder
	for line := range strings.Lines(doc) {
		if cells := strings.SplitN(line, " | ", 3); len(cells) == 3 && strings.HasPrefix(line, "| ") {
			b.WriteString(cells[0] + " | " + cells[1] + "\n")
		}
	}
	return b.String()
}

func escape(s string) string { return strings.ReplaceAll(s, "|", "\\|") }

// Missing ends a test that lacks what ci/deps.sh would have brought: in CI, and
// where the table is written, with a failure.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") != "" || *updateTable {
		t.Fatalf("%s is missing, and nothing may be left out here: ci/deps.sh installs it", what)
	}
	t.Skipf("*** SKIPPED: %s is missing; ci/deps.sh says how to get it", what)
}

// ModuleVersion returns the version of a module that ../go.mod requires.
func ModuleVersion(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == path {
			return strings.TrimSuffix(f[1], "+incompatible")
		}
	}
	t.Fatalf("go.mod does not require %s", path)
	return ""
}
