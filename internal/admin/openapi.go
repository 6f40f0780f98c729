package admin

import (
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

type object = map[string]any

// openAPI returns the OpenAPI document of the routes.
func openAPI(routes []route) object {
	schemas := object{}
	failure := schemaOf(reflect.TypeFor[Problem](), schemas)
	paths := object{}
	for _, r := range routes {
		status := r.status
		if status == 0 {
			status = http.StatusOK
		}
		responses := object{
			strconv.Itoa(status): object{
				"description": "Done.",
				"content":     object{"application/json": object{"schema": schemaOf(reflect.TypeOf(r.answers), schemas)}},
			},
		}
		for _, code := range append([]int{http.StatusUnauthorized, http.StatusForbidden}, r.fails...) {
			responses[strconv.Itoa(code)] = object{
				"description": http.StatusText(code) + ".",
				"content":     object{"application/problem+json": object{"schema": failure}},
			}
		}
		operation := object{"operationId": r.name, "summary": r.summary, "responses": responses}
		var parameters []any
		if strings.Contains(r.path, "{id}") {
			parameters = append(parameters, object{"name": "id", "in": "path", "required": true, "description": "The client id.", "schema": object{"type": "string"}})
		}
		for _, q := range r.query {
			parameters = append(parameters, object{"name": q.name, "in": "query", "description": q.text, "schema": object{"type": q.kind}})
		}
		parameters = append(parameters, object{
			"name": "node", "in": "query", "schema": object{"type": "string"},
			"description": "The node of the cluster that is to answer. Default: the one that is asked; a tunnel that another node has is found anyway.",
		})
		if changes(r.method) {
			parameters = append(parameters, object{
				"name": HeaderChange, "in": "header", "required": true, "schema": object{"type": "string"},
				"description": "Any value. It keeps pages of other origins out.",
			})
		}
		if parameters != nil {
			operation["parameters"] = parameters
		}
		item, _ := paths[r.path].(object)
		if item == nil {
			item = object{}
			paths[r.path] = item
		}
		item[strings.ToLower(r.method)] = operation
	}
	return object{
		"openapi": "3.1.0",
		"info": object{
			"title": "websocktunnel admin API", "version": "1",
			"description": "Who is connected to a websocktunnel service, and what to do about it. New fields may come; what is here stays.",
		},
		"security":   []any{object{"token": []any{}}},
		"paths":      paths,
		"components": object{"schemas": schemas, "securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "description": "ADMIN_TOKEN, where it is set."}}},
	}
}

// schemaOf returns the schema of t, with those of named structs in schemas.
func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		return object{"anyOf": []any{schemaOf(t.Elem(), schemas), object{"type": "null"}}}
	case t.Kind() == reflect.Struct:
		if schemas[t.Name()] == nil {
			s := object{"type": "object"}
			schemas[t.Name()] = s
			properties, required := object{}, []any{}
			for f := range t.Fields() {
				name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
				p := schemaOf(f.Type, schemas)
				if doc := f.Tag.Get("doc"); doc != "" {
					p["description"] = doc
				}
				properties[name] = p
				if options != "omitempty" {
					required = append(required, name)
				}
			}
			s["properties"], s["required"] = properties, required
		}
		return object{"$ref": "#/components/schemas/" + t.Name()}
	case t.Kind() == reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Interface:
		return object{"type": "object"}
	case t.Kind() == reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas)}
	case t.Kind() == reflect.String:
		return object{"type": "string"}
	case t.Kind() == reflect.Bool:
		return object{"type": "boolean"}
	case t.Kind() == reflect.Float64:
		return object{"type": "number"}
	case t.Kind() == reflect.Int, t.Kind() == reflect.Int64, t.Kind() == reflect.Uint64:
		return object{"type": "integer"}
	}
	panic(fmt.Sprintf("admin: no schema for %v", t))
}

func (a *Admin) getOpenAPI(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, openAPI(a.routes()))
}
