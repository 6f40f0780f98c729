package main

import (
	"net/http"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/tracing"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// startTracing makes the target trace requests, if the variables of OpenTelemetry ask
// for it.
func (c *config) startTracing(faults *cliapp.Faults) {
	cfg, errs := tracing.FromEnvironment(os.Getenv)
	for _, err := range errs {
		faults.Add("%v", err)
	}
	if cfg == nil || len(errs) > 0 {
		return
	}
	for _, w := range cfg.Warnings {
		c.log.Warn().Msg(w)
	}
	var err error
	if c.tracer, err = tracing.Start(cfg, "wst-client", buildinfo.Get().Version, c.log); err != nil {
		faults.Add("OTEL_TRACES_EXPORTER: %v", err)
	}
}

// traceRequest makes a span of each request to the target. Its path and query are the
// viewer's secrets.
func (c *config) traceRequest(out *http.Request) func(status int, failure string) {
	span := c.tracer.ClientOf(out.Header, out.Method)
	span.Inject(out.Header)
	if span.Recording() {
		port, _ := strconv.Atoi(out.URL.Port())
		span.Set(
			attribute.String("server.address", out.URL.Hostname()), attribute.Int("server.port", port), attribute.String("url.scheme", out.URL.Scheme),
			attribute.String("websocktunnel.id", c.tunnel.ID), attribute.String("websocktunnel.request_id", out.Header.Get(wire.HeaderRequestID)),
		)
	}
	return func(status int, failure string) {
		switch {
		case failure != "":
			span.Fail(failure)
		case status >= 400: // as a client sees it
			span.Fail(strconv.Itoa(status))
		}
		if failure == "" || status < 500 { // otherwise it is not the target's
			span.Set(attribute.Int("http.response.status_code", status))
		}
		span.End(time.Time{})
	}
}
