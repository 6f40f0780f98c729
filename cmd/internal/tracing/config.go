package tracing

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Config says where spans go.
type Config struct {
	exporters []string // exporterOTLP, exporterConsole
	grpc      bool     // how OTLP is spoken

	// Warnings are about variables that have no effect here.
	Warnings []string
}

const (
	exporterOTLP    = "otlp"
	exporterConsole = "console"
)

// FromEnvironment reads the OTEL_… variables that the SDK does not read itself, by
// getenv. It returns nil if nothing asks for traces: neither OTEL_TRACES_EXPORTER nor an
// OTLP endpoint is set, or OTEL_SDK_DISABLED is true. The errors, one for each fault,
// name the variable and the rule that it breaks.
func FromEnvironment(getenv func(string) string) (*Config, []error) {
	get := func(names ...string) (name, value string) {
		for _, name := range names {
			if v := strings.TrimSpace(getenv(name)); v != "" {
				return name, v
			}
		}
		return names[0], ""
	}
	const (
		exporter          = "OTEL_TRACES_EXPORTER"
		endpoint, traces  = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
		protocol, tracesP = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
		propagators       = "OTEL_PROPAGATORS"
	)
	if _, v := get("OTEL_SDK_DISABLED"); strings.EqualFold(v, "true") {
		return nil, nil
	}
	c := &Config{}
	var faults []error
	switch _, wanted := get(exporter); wanted {
	case "":
		if _, v := get(traces, endpoint); v == "" {
			return nil, nil
		}
		c.exporters = []string{exporterOTLP}
	case "none":
		return nil, nil
	default:
		for e := range strings.SplitSeq(wanted, ",") {
			if e = strings.TrimSpace(e); e != exporterOTLP && e != exporterConsole {
				faults = append(faults, fmt.Errorf("%s %.60q: it must be otlp, console or none", exporter, wanted))
				break
			} else if !slices.Contains(c.exporters, e) {
				c.exporters = append(c.exporters, e)
			}
		}
	}
	if slices.Contains(c.exporters, exporterOTLP) {
		switch name, v := get(tracesP, protocol); v {
		case "", "http/protobuf":
		case "grpc":
			c.grpc = true
		default:
			faults = append(faults, fmt.Errorf("%s %.60q: it must be http/protobuf or grpc", name, v))
		}
		// The SDK would log a faulty one and use localhost. The value may hold a password.
		for _, name := range []string{traces, endpoint} {
			_, v := get(name)
			if u, err := url.Parse(v); v != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
				faults = append(faults, fmt.Errorf("%s: it must be an http or https URL, such as http://localhost:4318", name))
			}
		}
	}
	if _, v := get(propagators); v != "" && !slices.Contains(strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' }), "tracecontext") {
		c.Warnings = append(c.Warnings, propagators+" has no effect: trace context travels as W3C traceparent and tracestate")
	}
	return c, faults
}
