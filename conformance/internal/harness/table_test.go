package harness

import (
	"strings"
	"testing"
)

const emptyDoc = "# Title\n\n<!-- table of x -->\n<!-- end of x -->\n\nmore\n"

func tableForTest() *Table {
	tb := &Table{Name: "x"}
	tb.Program("curl", "1")
	tb.Row("curl", "GET", "HTTP/2", "200", Same)
	tb.Row("curl", "GET", "HTTP/1.1", "200", Same)
	tb.Program("ab", "2")
	tb.Row("ab", "a | b", "", "", "done")
	tb.Append("*why*\n")
	return tb
}

func TestTable(t *testing.T) {
	doc, err := tableForTest().section(emptyDoc, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"ab 2, curl 1.\n\n",
		"| ab | a \\| b |  |  | done |\n| curl | GET | HTTP/1.1, HTTP/2 | 200 | the same |\n\n*why*\n<!-- end of x -->\n\nmore\n",
	} {
		if !strings.Contains(doc, want) {
			t.Errorf("no %q in\n%s", want, doc)
		}
	}
	if again, err := tableForTest().section(doc, true); again != doc {
		t.Errorf("written again: %v\n%s", err, again)
	}
	if _, err := (&Table{Name: "y"}).section(doc, true); err == nil {
		t.Error("a document without the section is taken")
	}
}

func TestTableCompared(t *testing.T) {
	doc, _ := tableForTest().section(emptyDoc, true)
	for _, tc := range []struct {
		name   string
		change func(tb *Table)
		all    bool
		same   bool
	}{
		{"nothing", func(*Table) {}, true, true},
		{"a version", func(tb *Table) { tb.Program("curl", "9") }, true, true},
		{"a result", func(tb *Table) { tb.Row("curl", "GET", "", "500", "") }, true, true},
		{"a new row", func(tb *Table) { tb.Row("curl", "POST", "", "", "") }, false, false},
		{"a row less", func(tb *Table) { delete(tb.rows, [2]string{"curl", "GET"}); tb.Row("curl", "POST", "", "", "") }, false, false},
		{"a program that did not run", func(tb *Table) { delete(tb.rows, [2]string{"curl", "GET"}) }, false, true},
		{"a program less where all run", func(tb *Table) { delete(tb.rows, [2]string{"curl", "GET"}) }, true, false},
		{"the text", func(tb *Table) { tb.Append("because") }, true, true},
	} {
		tb := tableForTest()
		tc.change(tb)
		got, err := tb.section(doc, tc.all)
		if err != nil {
			t.Fatal(err)
		}
		if same := rowsOf(got) == rowsOf(doc); same != tc.same {
			t.Errorf("%s: the same is %t, want %t\n%s", tc.name, same, tc.same, got)
		}
	}
}
