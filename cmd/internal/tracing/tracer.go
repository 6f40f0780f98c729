package tracing

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/websocktunnel/websocktunnel/internal/errorlog"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// closeTimeout is how long the last spans may take to leave.
const closeTimeout = 3 * time.Second

// Tracer makes spans. Create it with [Start].
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

// Start sets up what c asks for, for a program of that name. It connects to nothing
// yet, and no request ever waits for a collector: spans that it does not take are lost,
// and log says so. The Tracer has to be closed.
func Start(c *Config, program, version string, log zerolog.Logger) (*Tracer, error) {
	log = errorlog.Bounded(log)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn().Str(logevent.Field, logevent.Tracing).Str("error", redact.Error(err)).Msg("spans are lost")
	}))
	otel.SetLogger(logr.Discard()) // it would write to standard error by itself
	ctx := context.Background()
	described, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", program), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // the last one counts
	)
	if err != nil {
		return nil, err
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(described)}
	for _, name := range c.exporters {
		var e sdktrace.SpanExporter
		switch {
		case name == exporterConsole:
			e, err = stdouttrace.New(stdouttrace.WithWriter(os.Stderr)) // standard output is for others
		case c.grpc:
			e, err = otlptracegrpc.New(ctx)
		default:
			e, err = otlptracehttp.New(ctx)
		}
		if err != nil {
			return nil, err
		}
		options = append(options, sdktrace.WithBatcher(e))
	}
	provider := sdktrace.NewTracerProvider(options...)
	return &Tracer{provider, provider.Tracer("github.com/websocktunnel/websocktunnel", trace.WithInstrumentationVersion(version))}, nil
}

// Close sends the last spans, for a few seconds at most. On nil it does nothing.
func (t *Tracer) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	closed := make(chan struct{})
	go func() { // which a collector that hangs may keep, and the end of the process ends
		defer close(closed)
		if err := t.provider.Shutdown(ctx); err != nil {
			otel.Handle(err)
		}
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}

// Span is a span, and what comes after it in the trace.
type Span struct {
	span trace.Span
	ctx  context.Context
}

// Server begins the span of a request that came at start, with the headers h.
func (t *Tracer) Server(h http.Header, method string, start time.Time) Span {
	return t.start(extract(h), method, trace.WithSpanKind(trace.SpanKindServer), trace.WithTimestamp(start))
}

// Client begins the span of a request that goes out of parent's.
func (t *Tracer) Client(parent Span, method string) Span {
	return t.start(parent.ctx, method, trace.WithSpanKind(trace.SpanKindClient))
}

// ClientOf is Client for the parent that the headers h name.
func (t *Tracer) ClientOf(h http.Header, method string) Span {
	return t.start(extract(h), method, trace.WithSpanKind(trace.SpanKindClient))
}

func (t *Tracer) start(ctx context.Context, method string, options ...trace.SpanStartOption) Span {
	known := knownMethod(method)
	name := known
	if known == otherMethod {
		name = "HTTP"
	}
	ctx, span := t.tracer.Start(ctx, name, append(options, trace.WithAttributes(attribute.String("http.request.method", known)))...)
	return Span{span, ctx}
}

// Recording reports whether attributes are of any use: the span has been sampled.
func (s Span) Recording() bool { return s.span.IsRecording() }

// Set adds attributes. Those that are empty or zero are left out.
func (s Span) Set(attributes ...attribute.KeyValue) {
	for _, a := range attributes {
		if v := a.Value.AsInterface(); v != "" && v != int64(0) && v != false {
			s.span.SetAttributes(a)
		}
	}
}

// Fail says why the request failed: an error type of RFC 9209 or a status.
func (s Span) Fail(reason string) {
	s.span.SetAttributes(attribute.String("error.type", reason))
	s.span.SetStatus(codes.Error, "")
}

// End ends the span at that time; the zero time is now.
func (s Span) End(at time.Time) {
	if at.IsZero() {
		s.span.End()
		return
	}
	s.span.End(trace.WithTimestamp(at))
}

// Inject names the span as the parent in the headers h.
func (s Span) Inject(h http.Header) {
	h.Del("Traceparent")
	h.Del("Tracestate")
	propagation.TraceContext{}.Inject(s.ctx, propagation.HeaderCarrier(h))
}

// extract returns a context with the parent that h names.
func extract(h http.Header) context.Context {
	return propagation.TraceContext{}.Extract(context.Background(), headers(h))
}

// headers reads tracestate from several lines too.
type headers http.Header

func (h headers) Get(name string) string { return strings.Join(http.Header(h).Values(name), ",") }
func (headers) Set(string, string)       {}
func (headers) Keys() []string           { return nil }

// otherMethod stands for methods that the conventions do not name: viewers choose them.
const otherMethod = "_OTHER"

func knownMethod(method string) string {
	switch method {
	case "":
		return http.MethodGet
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodOptions, http.MethodConnect, http.MethodTrace, "QUERY":
		return method
	}
	return otherMethod
}
