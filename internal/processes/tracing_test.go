//go:build linux

package processes

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// span is one that a process has sent.
type span struct {
	*traces.Span
	service string
}

func (s span) attribute(name string) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == name {
			if v, ok := a.GetValue().GetValue().(*common.AnyValue_IntValue); ok {
				return fmt.Sprint(v.IntValue)
			}
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// newCollector returns an OTLP receiver's URL, and the spans that come.
func newCollector(t *testing.T) (url string, spans <-chan span) {
	t.Helper()
	ch := make(chan span, 1000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			body, _ = gzip.NewReader(r.Body)
		}
		b, err := io.ReadAll(body)
		var request collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(b, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL, err)
		}
		if strings.Contains(string(b), "secret") {
			t.Errorf("the spans hold a secret: %q", b)
		}
		for _, rs := range request.GetResourceSpans() {
			service := ""
			for _, a := range rs.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					service = a.GetValue().GetStringValue()
				}
			}
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					ch <- span{s, service}
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(srv.Close)
	return srv.URL, ch
}

// next returns the next n spans, by service and kind.
func next(t *testing.T, spans <-chan span, n int) map[string]span {
	t.Helper()
	got := make(map[string]span)
	for range n {
		select {
		case s := <-spans:
			got[s.service+" "+s.GetKind().String()] = s
		case <-time.After(patience):
			t.Fatalf("only %d spans of %d have come: %v", len(got), n, got)
		}
	}
	return got
}

const (
	serverSpan = "websocktunnel SPAN_KIND_SERVER"
	sentSpan   = "websocktunnel SPAN_KIND_CLIENT"
	targetSpan = "wst-client SPAN_KIND_CLIENT"
)

// TestTracing: a request makes three spans of one trace, that of the viewer if it has
// one, and the target belongs to it. They hold nothing of the path and the query.
func TestTracing(t *testing.T) {
	needProcesses(t)
	url, spans := newCollector(t)
	otel := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + url, "OTEL_BSP_SCHEDULE_DELAY=50"}
	arrived := make(chan http.Header, 10)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.Header
		if strings.HasPrefix(r.URL.Path, "/fails") {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer site.Close()
	addr := newAddr()
	svc := startService(t, addr, serviceOptions{env: otel})
	c := &tunnelClient{id: "a", process: start(t, here, 0, append(otel, "WST_TOKEN="+tunneltest.Token(t, "a")),
		"wst-client", "http://"+addr, "a", site.URL)}
	c.connect()

	get := func(path string, header http.Header) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}

	const theirTrace, theirSpan = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	get("/a/secret/path?secret=query", http.Header{
		"Traceparent": {"00-" + theirTrace + "-" + theirSpan + "-01"}, "Tracestate": {"a=1", "b=2"}, "Referer": {"http://x/secret"},
	})
	got := next(t, spans, 3)
	server, sent, target := got[serverSpan], got[sentSpan], got[targetSpan]
	if server.Span == nil || sent.Span == nil || target.Span == nil {
		t.Fatalf("the spans are %v", got)
	}
	for name, s := range got {
		if id := hex.EncodeToString(s.GetTraceId()); id != theirTrace {
			t.Errorf("%s is of trace %s, want the viewer's", name, id)
		}
		if s.GetTraceState() != "a=1,b=2" || s.GetName() != "GET" || s.attribute("http.request.method") != "GET" ||
			s.attribute("http.response.status_code") != "200" || s.attribute("websocktunnel.id") != "a" || s.GetStatus().GetCode() != traces.Status_STATUS_CODE_UNSET {
			t.Errorf("%s: %v", name, s)
		}
	}
	if p := hex.EncodeToString(server.GetParentSpanId()); p != theirSpan {
		t.Errorf("the parent of the server's span is %s, want the viewer's", p)
	}
	if string(sent.GetParentSpanId()) != string(server.GetSpanId()) || string(target.GetParentSpanId()) != string(sent.GetSpanId()) {
		t.Errorf("the spans are not each other's parents: %v", got)
	}
	h := <-arrived
	requestID := h.Get("X-Websocktunnel-Request-Id")
	for name, s := range got {
		if id := s.attribute("websocktunnel.request_id"); id == "" || id != requestID {
			t.Errorf("%s: the request is called %q, want %q", name, id, requestID)
		}
	}
	if want := "00-" + theirTrace + "-" + hex.EncodeToString(target.GetSpanId()) + "-01"; h.Get("Traceparent") != want || h.Get("Tracestate") != "a=1,b=2" {
		t.Errorf("the target belongs to %q %q, want %q", h.Get("Traceparent"), h["Tracestate"], want)
	}
	for name, want := range map[string]string{
		"url.path": "/a/…", "network.protocol.version": "1.1", "client.address": "127.0.0.1", "websocktunnel.request_id": requestID,
		"websocktunnel.producer": "target", "error.type": "", "url.query": "",
	} {
		if got := server.attribute(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	// Without a trace of the viewer's, or with what is none.
	for _, header := range []http.Header{{}, {"Traceparent": {"00-1-2-01"}, "Tracestate": {"a=1"}}} {
		get("/a/fails", header)
		got = next(t, spans, 3)
		if s := got[serverSpan]; len(s.GetParentSpanId()) != 0 || s.GetTraceState() != "" || s.attribute("error.type") != "500" || s.GetStatus().GetCode() != traces.Status_STATUS_CODE_ERROR {
			t.Errorf("the server's span: %v", s)
		}
		if s := got[targetSpan]; string(s.GetTraceId()) != string(got[serverSpan].GetTraceId()) || s.attribute("error.type") != "500" {
			t.Errorf("the target's span: %v", s)
		}
		if h := <-arrived; h.Get("Tracestate") != "" {
			t.Errorf("the target got the state %q of no trace", h.Get("Tracestate"))
		}
	}

	// The viewer does not want it recorded.
	get("/a/", http.Header{"Traceparent": {"00-" + theirTrace + "-" + theirSpan + "-00"}})
	if h := <-arrived; !strings.HasPrefix(h.Get("Traceparent"), "00-"+theirTrace) || !strings.HasSuffix(h.Get("Traceparent"), "-00") {
		t.Errorf("the target belongs to %q", h.Get("Traceparent"))
	}

	// A target that is down, and then no tunnel at all.
	site.Close()
	get("/a/secret", http.Header{})
	got = next(t, spans, 3)
	if s := got[targetSpan]; s.attribute("error.type") != "connection_refused" || s.attribute("http.response.status_code") != "" {
		t.Errorf("the span of a target that is down: %v", s)
	}
	if s := got[serverSpan]; s.attribute("websocktunnel.failed_hop") != "target" || s.attribute("error.type") != "connection_refused" || s.attribute("http.response.status_code") != "502" {
		t.Errorf("the span of a request whose target is down: %v", s)
	}
	get("/nobody/", http.Header{})
	if s := next(t, spans, 1)[serverSpan]; s.attribute("http.response.status_code") != "404" || s.GetStatus().GetCode() != traces.Status_STATUS_CODE_UNSET {
		t.Errorf("the span of a request to nobody: %v", s)
	}

	// The last spans leave before the process does.
	get("/nobody/", http.Header{})
	c.signal(syscall.SIGTERM)
	c.exits(0, patience)
	svc.signal(syscall.SIGTERM)
	svc.exits(0, patience)
	next(t, spans, 1)
}

// TestTracingWithoutCollector: neither a collector that is not there nor one that does
// not answer holds anything up, but for the last spans, for a moment.
func TestTracingWithoutCollector(t *testing.T) {
	needProcesses(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, env := range map[string][]string{
		"refused":        {"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"},
		"silent":         {"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + silent.Addr().String()},
		"silent gRPC":    {"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + silent.Addr().String(), "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"},
		"little is kept": {"OTEL_EXPORTER_OTLP_ENDPOINT=http://" + silent.Addr().String(), "OTEL_BSP_MAX_QUEUE_SIZE=2", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := newAddr()
			env = append(env, "OTEL_BSP_SCHEDULE_DELAY=20")
			svc := startService(t, addr, serviceOptions{env: env})
			c := &tunnelClient{id: "a", process: start(t, here, 0, append(env, "WST_TOKEN="+tunneltest.Token(t, "a")),
				"wst-client", "http://"+addr, "a", "http://"+newTarget(t, here, "127.0.0.1").addr.String())}
			c.connect()
			client := http.Client{Timeout: patience}
			defer client.CloseIdleConnections()
			begun := time.Now()
			for range 50 {
				resp, err := client.Get(c.url + "/echo?x")
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Fatal(resp.Status)
				}
			}
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("50 requests took %v", took)
			}
			for _, p := range []*process{c.process, svc.process} {
				begun := time.Now()
				p.signal(syscall.SIGTERM)
				p.exits(0, patience)
				if took := time.Since(begun); took > 8*time.Second { // of which 3 for the spans
					t.Errorf("%s took %v to end", p.name, took)
				}
			}
		})
	}
}
