package main

import (
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/attribute"

	"github.com/websocktunnel/websocktunnel/cmd/internal/accesslog"
	"github.com/websocktunnel/websocktunnel/cmd/internal/tracing"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
	"github.com/websocktunnel/websocktunnel/server"
)

// readTracing reads the variables of OpenTelemetry.
func (c *config) readTracing(s *settings) {
	var faults []error
	c.tracing, faults = tracing.FromEnvironment(os.Getenv)
	for _, f := range faults {
		s.faults.Add("%v", f)
	}
	if c.tracing != nil {
		c.warnings = append(c.warnings, c.tracing.Warnings...)
	}
}

// startTracing makes the service trace requests, if it is asked for. The Tracer, which
// may be nil, has to be closed.
func startTracing(c *config, log zerolog.Logger) (*tracing.Tracer, error) {
	if c.tracing == nil {
		return nil, nil
	}
	t, err := tracing.Start(c.tracing, "websocktunnel", buildinfo.Get().Version, log)
	if err == nil {
		c.server.TraceRequest = requestTracer{t, c.access.paths}.trace
	}
	return t, err
}

// requestTracer makes two spans of each request: one as the server of the viewer, and
// in it one for each try to send it into a tunnel.
type requestTracer struct {
	*tracing.Tracer
	paths bool // show them whole
}

func (t requestTracer) trace(i *server.RequestInfo, h http.Header) *server.RequestTrace {
	span := t.Server(h, i.Method, i.Start)
	tries := 0
	return &server.RequestTrace{
		Sending: func(h http.Header) func(int) {
			try := t.Client(span, i.Method)
			try.Inject(h)
			try.Set(attribute.String("websocktunnel.id", i.Tunnel), attribute.String("websocktunnel.request_id", i.ID), attribute.Int("http.request.resend_count", tries))
			tries++
			return func(status int) {
				try.Set(attribute.Int("http.response.status_code", status))
				switch {
				case status == 0:
					try.Fail("no answer")
				case status >= 400: // as a client sees it
					try.Fail(strconv.Itoa(status))
				}
				try.End(time.Time{})
			}
		},
		Done: func(i *server.RequestInfo) {
			if span.Recording() {
				t.describe(span, i)
			}
			span.End(i.End)
		},
	}
}

// describe sets the attributes of a request that is over, with what an access log would
// say of it.
func (t requestTracer) describe(span tracing.Span, i *server.RequestInfo) {
	host, port := i.Host, 0
	if h, p, err := net.SplitHostPort(i.Host); err == nil {
		host = h
		port, _ = strconv.Atoi(p)
	}
	protocol, version, _ := strings.Cut(i.Proto, "/")
	span.Set(
		attribute.String("server.address", bounded(host)), attribute.Int("server.port", port),
		attribute.String("url.path", bounded(accesslog.Path(i, t.paths))),
		attribute.String("network.protocol.name", strings.ToLower(protocol)),
		attribute.String("network.protocol.version", strings.TrimSuffix(version, ".0")),
		attribute.String("user_agent.original", bounded(i.UserAgent)),
		attribute.Int("http.response.status_code", i.Status),
		attribute.Int64("http.request.body.size", i.Received), attribute.Int64("http.response.body.size", i.Sent),
		attribute.String("websocktunnel.id", i.Tunnel), attribute.String("websocktunnel.request_id", i.ID),
		attribute.String("websocktunnel.producer", i.Producer), attribute.String("websocktunnel.failed_hop", i.FailedHop),
		attribute.String("websocktunnel.error_code", i.ErrorCode),
		attribute.Bool("websocktunnel.broken", i.Broken),
	)
	if i.Viewer.IsValid() {
		span.Set(attribute.String("client.address", i.Viewer.String()))
	}
	switch {
	case i.Status >= 500 || i.Broken || i.FailedHop == "client" || i.FailedHop == "target":
		reason := i.Error
		if reason == "" {
			reason = strconv.Itoa(i.Status)
		}
		span.Fail(reason)
	case i.Error != "": // the viewer's doing
		span.Set(attribute.String("error.type", i.Error))
	}
}

// maxAttribute bounds what viewers can put into one attribute.
const maxAttribute = 256

func bounded(s string) string { return s[:min(len(s), maxAttribute)] }
