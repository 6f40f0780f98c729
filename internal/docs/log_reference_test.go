package docs_test

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the reference of log events in docs/ anew")

// TestLogReference: the tables of events in docs/log.md are those that the comments of
// internal/logevent make.
func TestLogReference(t *testing.T) {
	const path = "../../docs/log.md"
	source, err := parser.ParseFile(token.NewFileSet(), "../logevent/logevent.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for _, decl := range source.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST || !group.Lparen.IsValid() {
			continue
		}
		var table strings.Builder
		table.WriteString("\n| `event` | When | Fields beside it |\n|---|---|---|\n")
		for _, spec := range group.Specs {
			c := spec.(*ast.ValueSpec)
			name, err := strconv.Unquote(c.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			when, fields, ok := strings.Cut(strings.TrimSpace(c.Doc.Text()), "\n\nFields: ")
			if !ok {
				t.Errorf("the comment on %s does not end with a paragraph that begins with Fields", c.Names[0])
			}
			join := strings.NewReplacer("\n", " ", "|", `\|`).Replace
			fmt.Fprintf(&table, "| `%s` | %s | %s |\n", name, join(when), join(strings.TrimSuffix(fields, ".")))
		}
		tables = append(tables, table.String()+"\n")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- made from the code: begin -->\n", "<!-- made from the code: end -->"
	parts := strings.Split(string(text), begin)
	if len(parts) != len(tables)+1 {
		t.Fatalf("%s has %d tables, and the code %d", path, len(parts)-1, len(tables))
	}
	var want strings.Builder
	want.WriteString(parts[0])
	for i, part := range parts[1:] {
		_, rest, _ := strings.Cut(part, end)
		want.WriteString(begin + tables[i] + end + rest)
	}
	switch {
	case want.String() == string(text):
	case *update:
		if err := os.WriteFile(path, []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not current: go test ./internal/docs -run LogReference -update", path)
	}
}
