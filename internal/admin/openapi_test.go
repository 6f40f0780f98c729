package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/admin"
)

// TestOpenAPI asks for all that the document has and holds the answers against it:
// every field is described, every status is named, and what is not in the document
// is not there.
func TestOpenAPI(t *testing.T) {
	s := newService(3)
	a := admin.New(admin.Config{
		Service: s, Drain: func() {}, Reload: func() (admin.Reloaded, []string) {
			return admin.Reloaded{Changed: []string{"A"}, Restart: []string{"B"}}, nil
		},
		Settings: []admin.Setting{{Name: "PORT", Value: "80", Source: "default"}},
	})
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string
			Parameters  []struct{ Name, In string }
			Responses   map[string]struct {
				Content map[string]struct{ Schema map[string]any }
			}
		}
		Components struct{ Schemas map[string]map[string]any }
	}
	if err := json.Unmarshal(ask(a, "GET", "/api/v1/openapi.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	check := checker{t, doc.Components.Schemas}
	for _, prefix := range []string{"/api/v1/status", "/api/v1/tunnels/{id}", "/api/v1/drain"} {
		if doc.Paths[prefix] == nil {
			t.Errorf("%s is missing", prefix)
		}
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			name := strings.ToUpper(method) + " " + path
			if ids[op.OperationID] || op.OperationID == "" {
				t.Errorf("%s: operationId %q", name, op.OperationID)
			}
			ids[op.OperationID] = true
			for id, want := range map[string]string{"tunnel-00001": "2", "nobody": "404"} {
				if strings.HasSuffix(path, "/unblock") && want == "2" {
					s.evicted = []string{id}
				}
				var headers []string
				for _, p := range op.Parameters {
					if p.In == "header" {
						headers = append(headers, p.Name+": 1")
					}
				}
				w := ask(a, strings.ToUpper(method), strings.Replace(path, "{id}", id, 1), "", headers...)
				if strings.Contains(path, "{id}") && !strings.HasPrefix(fmt.Sprint(w.Code), want) {
					t.Errorf("%s of %s: %d", name, id, w.Code)
				}
				kind := w.Header().Get("Content-Type")
				response, ok := op.Responses[fmt.Sprint(w.Code)].Content[kind]
				if !ok {
					t.Errorf("%s: %d with %s is not in the document", name, w.Code, kind)
					continue
				}
				var got any
				if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				check.value(name, got, response.Schema)
				s.tunnels = newService(3).tunnels // what was evicted
			}
		}
	}
	if w := ask(a, http.MethodGet, "/api/v1/nothing", ""); w.Code != 404 {
		t.Errorf("a path that is not in the document: %d", w.Code)
	}
}

// checker holds values against schemas.
type checker struct {
	t       *testing.T
	schemas map[string]map[string]any
}

func (c checker) value(at string, v any, schema map[string]any) {
	if ref, ok := schema["$ref"].(string); ok {
		c.value(at, v, c.schemas[ref[strings.LastIndex(ref, "/")+1:]])
		return
	}
	if forms, ok := schema["anyOf"].([]any); ok {
		if v != nil {
			c.value(at, v, forms[0].(map[string]any))
		}
		return
	}
	ok := false
	switch v := v.(type) {
	case string:
		ok = schema["type"] == "string"
	case bool:
		ok = schema["type"] == "boolean"
	case float64:
		ok = schema["type"] == "number" || schema["type"] == "integer" && v == float64(int64(v))
	case []any:
		ok = schema["type"] == "array"
		items, _ := schema["items"].(map[string]any)
		for i, item := range v {
			c.value(fmt.Sprintf("%s[%d]", at, i), item, items)
		}
	case map[string]any:
		ok = schema["type"] == "object"
		properties, fixed := schema["properties"].(map[string]any)
		more, _ := schema["additionalProperties"].(map[string]any)
		for name, field := range v {
			switch p, known := properties[name].(map[string]any); {
			case known:
				c.value(at+"."+name, field, p)
			case fixed:
				c.t.Errorf("%s: field %s is not in the document", at, name)
			case more != nil:
				c.value(at+"."+name, field, more)
			}
		}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, there := v[name.(string)]; !there {
				c.t.Errorf("%s: field %s is missing", at, name)
			}
		}
	}
	if !ok {
		c.t.Errorf("%s: %v is no %v", at, v, schema["type"])
	}
}
