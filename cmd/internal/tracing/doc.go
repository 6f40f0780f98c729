// Package tracing sends the spans of requests to an OpenTelemetry collector, as the
// standard OTEL_… variables say. Without them it does nothing and costs nothing.
//
// The exporters are OTLP over HTTP and gRPC, and the console. OpenTelemetry's own
// choice by variables (contrib's autoexport) brings those for metrics and logs too,
// Prometheus's among them, which makes a program 2.4 MB larger than this package does.
package tracing
