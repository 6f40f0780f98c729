package e2e

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
)

// updateTable makes TestDifferential write its table into the documentation.
var updateTable = flag.Bool("update-table", false, "rewrite the table of exchanges in docs/compatibility.md")

const (
	tablePath  = "../../docs/compatibility.md"
	tableBegin = "<!-- table of exchanges: go test -run Differential -update-table ./internal/e2e -->\n"
	tableEnd   = "<!-- end of the table of exchanges -->\n"
)

// tableRow is the row of x in the table of exchanges.
func tableRow(x exchange, results map[way]string) string {
	line, _, _ := strings.Cut(x.request, "\r\n")
	final := x.answer[strings.LastIndex(x.answer, "HTTP/1.1 "):]
	status, _, _ := strings.Cut(strings.TrimPrefix(final, "HTTP/1.1 "), "\r\n")
	cells := []string{x.name, code(strings.TrimSuffix(line, " HTTP/1.1")), status}
	for _, w := range ways {
		result := results[w]
		if result == "" {
			result = "–"
		}
		cells = append(cells, result)
	}
	var except []string
	for _, e := range []struct {
		who   string
		lines []string
	}{{"target", x.atTarget}, {"viewer", append(x.atInterim, x.atViewer...)}} {
		if len(e.lines) == 0 {
			continue
		}
		var text strings.Builder
		text.WriteString("the " + e.who + " gets")
		for i := 0; i < len(e.lines); i++ {
			over, sign, line := parseDifference(e.lines[i])
			text.WriteString(" ")
			if sign == '-' {
				instead := ""
				if i+1 < len(e.lines) {
					if o, s, l := parseDifference(e.lines[i+1]); o == over && s == '+' {
						instead = l
					}
				}
				if instead != "" {
					text.WriteString(code(instead) + " for ")
					i++
				} else {
					text.WriteString("no ")
				}
			}
			text.WriteString(code(line) + over + ";")
		}
		except = append(except, strings.TrimSuffix(text.String(), ";"))
	}
	cells = append(cells, strings.Join(except, "; "))
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// parseDifference splits an entry of exchange.atTarget.
func parseDifference(s string) (over string, sign byte, line string) {
	switch s[0] {
	case '1':
		over, s = ", over HTTP/1.1", s[1:]
	case '2':
		over, s = ", over HTTP/2", s[1:]
	}
	return over, s[0], s[1:]
}

func code(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if r := []rune(s); len(r) > 60 {
		s = string(r[:57]) + "..."
	}
	s = strings.ReplaceAll(s, "|", "\\|")
	if strings.Contains(s, "`") {
		return "`` " + s + " ``"
	}
	return "`" + s + "`"
}

// checkTable compares the table in the documentation with what was run.
func checkTable(t *testing.T, rows string) {
	doc, err := os.ReadFile(tablePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(doc), tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no table of exchanges", tablePath)
	}
	var head strings.Builder
	head.WriteString("| exchange | request | direct |")
	var rule strings.Builder
	rule.WriteString("|---|---|---|")
	for _, w := range ways {
		head.WriteString(" " + w.name + " |")
		rule.WriteString("---|")
	}
	head.WriteString(" but |\n" + rule.String() + "---|\n")
	if *updateTable {
		table := fmt.Sprintf("Last written with %s, x/net as in go.mod, on %s.\n\n", runtime.Version(), runtime.GOOS) + head.String() + rows
		if err := os.WriteFile(tablePath, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !strings.HasSuffix(old, head.String()+rows) {
		t.Errorf("the table of exchanges in %s is not what this test does: run it with -update-table", tablePath)
	}
}
