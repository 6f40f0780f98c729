package tracing_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/cmd/internal/tracing"
)

// TestFromEnvironment: only what asks for traces switches them on, and each fault names
// its variable.
func TestFromEnvironment(t *testing.T) {
	for _, tc := range []struct {
		env      string
		on       bool
		warnings int
		faults   string
	}{
		{"", false, 0, ""},
		{"OTEL_SERVICE_NAME=x OTEL_TRACES_SAMPLER=always_on OTEL_EXPORTER_OTLP_PROTOCOL=grpc", false, 0, ""},
		{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=http://c", false, 0, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", true, 0, ""},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=https://c/v1/traces", true, 0, ""},
		{"OTEL_TRACES_EXPORTER=otlp", true, 0, ""},
		{"OTEL_TRACES_EXPORTER=console,otlp", true, 0, ""},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://c", false, 0, ""},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_SDK_DISABLED=true", false, 0, ""},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_SDK_DISABLED=false OTEL_EXPORTER_OTLP_PROTOCOL=grpc", true, 0, ""},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_PROPAGATORS=b3", true, 1, ""},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_PROPAGATORS=tracecontext,baggage", true, 0, ""},
		{"OTEL_TRACES_EXPORTER=jaeger", true, 0, "OTEL_TRACES_EXPORTER"},
		{"OTEL_TRACES_EXPORTER=otlp,", true, 0, "OTEL_TRACES_EXPORTER"},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=http/json", true, 0, "OTEL_EXPORTER_OTLP_PROTOCOL"},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=http/json OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", true, 0, ""},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=secret:4318", true, 0, "OTEL_EXPORTER_OTLP_ENDPOINT"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=://secret", true, 0, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"},
	} {
		env := map[string]string{}
		for f := range strings.FieldsSeq(tc.env) {
			name, value, _ := strings.Cut(f, "=")
			env[name] = value
		}
		c, faults := tracing.FromEnvironment(func(name string) string { return env[name] })
		if (c != nil) != tc.on || c != nil && len(c.Warnings) != tc.warnings {
			t.Errorf("%s: %+v", tc.env, c)
		}
		text := fmt.Sprint(faults)
		if (len(faults) == 1) != (tc.faults != "") || !strings.HasPrefix(strings.Trim(text, "[]"), tc.faults) || strings.Contains(text, "secret") {
			t.Errorf("%s: faults %v", tc.env, faults)
		}
	}
}
