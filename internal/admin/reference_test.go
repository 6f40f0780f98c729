package admin_test

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/admin"
)

var update = flag.Bool("update", false, "write the reference in docs/ anew")

// schema is a type in the OpenAPI document.
type schema struct {
	Ref                  string `json:"$ref"`
	Type, Format         string
	Description          string
	Properties           map[string]schema
	Items                *schema
	AdditionalProperties *schema
	AnyOf                []schema
}

// text returns what the reference says of a type.
func (s schema) text() string {
	switch {
	case s.Ref != "":
		name := strings.TrimPrefix(s.Ref, "#/components/schemas/")
		return fmt.Sprintf("[%s](#%s)", name, strings.ToLower(name))
	case s.Items != nil:
		return "array of " + s.Items.text()
	case s.AdditionalProperties != nil:
		return "object of " + s.AdditionalProperties.text()
	case s.AnyOf != nil:
		return s.AnyOf[0].text() + " or null"
	case s.Format == "date-time":
		return "time (RFC 3339)"
	}
	return s.Type
}

// TestReference holds docs/admin-api.md against the code. "go test ./internal/admin
// -run Reference -update" writes it anew.
func TestReference(t *testing.T) {
	a := admin.New(admin.Config{Service: newService(0)})
	var doc struct {
		Paths map[string]map[string]struct {
			Summary    string
			Parameters []struct {
				Name, In, Description string
				Schema                schema
			}
			Responses map[string]struct {
				Content map[string]struct{ Schema schema }
			}
		}
		Components struct{ Schemas map[string]schema }
	}
	if err := json.Unmarshal(ask(a, "GET", "/api/v1/openapi.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	row := func(cells ...string) {
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", "\\|")
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	fmt.Fprintf(&b, "\n## Requests\n")
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			op := doc.Paths[path][method]
			fmt.Fprintf(&b, "\n### %s %s\n\n%s\n\n", strings.ToUpper(method), path, op.Summary)
			if len(op.Parameters) > 0 {
				row("Parameter", "In", "Type", "Meaning")
				row("---", "---", "---", "---")
				for _, p := range op.Parameters {
					row("`"+p.Name+"`", p.In, p.Schema.text(), p.Description)
				}
				fmt.Fprintln(&b)
			}
			row("Status", "Answer")
			row("---", "---")
			for _, code := range slices.Sorted(maps.Keys(op.Responses)) {
				for _, content := range op.Responses[code].Content {
					row(code, content.Schema.text())
				}
			}
		}
	}
	fmt.Fprintf(&b, "\n## Types\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		fmt.Fprintf(&b, "\n### %s\n\n", name)
		row("Field", "Type", "Meaning")
		row("---", "---", "---")
		properties := doc.Components.Schemas[name].Properties
		for _, field := range slices.Sorted(maps.Keys(properties)) {
			row("`"+field+"`", properties[field].text(), cmp.Or(properties[field].Description, "–"))
		}
	}
	fmt.Fprintln(&b)

	const file, begin, end = "../../docs/admin-api.md", "<!-- made from the code: begin -->\n", "<!-- made from the code: end -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has not the lines %q and %q", file, begin, end)
	}
	if got == b.String() {
		return
	}
	if !*update {
		t.Fatalf("%s is not current: go test ./internal/admin -run Reference -update", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
