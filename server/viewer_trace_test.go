package server

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// traceLog notes what the hooks of a trace are told.
type traceLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *traceLog) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *traceLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func (l *traceLog) trace(i *RequestInfo, h http.Header) *RequestTrace {
	l.add("begin %s %s%s %s", i.Method, i.Tunnel, strings.TrimPrefix(i.Path, i.Prefix), h.Get("Traceparent"))
	return &RequestTrace{
		Sending: func(h http.Header) func(int) {
			l.add("sending %s", h.Get("Traceparent"))
			h.Set("Traceparent", "ours")
			return func(status int) { l.add("over %d", status) }
		},
		Done: func(i *RequestInfo) { l.add("done %d %s", i.Status, i.FailedHop) },
	}
}

// TestTraceRequest: a trace sees each request begin, go into the tunnel and end, and
// what it sets there is what the tunnel client gets, whatever becomes of the request.
func TestTraceRequest(t *testing.T) {
	var l traceLog
	s := newService(t, Config{TraceRequest: l.trace})
	s.waitActive(s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.Header().Set(wire.HeaderError, "connection_refused")
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if r.URL.Path == "/broken" {
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, r.Header.Get("Traceparent"))
	})))
	for _, tc := range []struct {
		path string
		want []string
	}{
		{"/a/x", []string{"begin GET a/x theirs", "sending theirs", "over 200", "done 200 "}},
		{"/a/refused", []string{"begin GET a/refused theirs", "sending theirs", "over 502", "done 502 target"}},
		{"/a/broken", []string{"begin GET a/broken theirs", "sending theirs", "over 0", "done 502 target"}},
		{"/nobody/", []string{"begin GET nobody/ theirs", "done 404 service"}},
		{"/__version__", []string{"begin GET  theirs", "done 200 "}},
		{"/", []string{"begin GET / theirs", "done 404 service"}},
	} {
		_, body := s.get(tc.path, "Traceparent", "theirs")
		var got []string
		waitFor(t, func() bool {
			got = append(got, l.take()...)
			return len(got) >= len(tc.want)
		})
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.path, got, tc.want)
		}
		if tc.path == "/a/x" && body != "ours" {
			t.Errorf("the target got %q", body)
		}
	}

	// Go code: its request stays as it is.
	req, err := http.NewRequest(http.MethodGet, "http://a/code", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "theirs")
	resp, err := s.RoundTripper("a").RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(body) != "ours" || req.Header.Get("Traceparent") != "theirs" {
		t.Errorf("the target got %q, and the caller's header is %q", body, req.Header)
	}
	if got, want := l.take(), []string{"begin GET a theirs", "sending theirs", "over 200", "done 200 "}; !slices.Equal(got, want) {
		t.Errorf("Go code: %q, want %q", got, want)
	}
}

// TestTraceNothing: a trace that wants to know nothing of a request, or not all of it,
// changes nothing.
func TestTraceNothing(t *testing.T) {
	for name, trace := range map[string]*RequestTrace{
		"none": nil, "empty": {}, "no end": {Sending: func(http.Header) func(int) { return nil }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, Config{TraceRequest: func(*RequestInfo, http.Header) *RequestTrace { return trace }})
			s.waitActive(s.connect("a", echoTrace))
			if _, body := s.get("/a/", "Traceparent", "theirs", "Tracestate", "a=1,b=2"); body != `["theirs"] ["a=1,b=2"]` {
				t.Errorf("the target got %s", body)
			}
		})
	}
}

var echoTrace = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%q %q", r.Header["Traceparent"], r.Header["Tracestate"])
})

// TestTraceContextPasses: without tracing, the trace context of viewers passes as it
// is, also where it is none.
func TestTraceContextPasses(t *testing.T) {
	s := newService(t, Config{})
	s.waitActive(s.connect("a", echoTrace))
	for _, tc := range []struct{ header, want string }{
		{"", "[] []"},
		{"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", `["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"] []`},
		{"TraceParent: cc-1-future-format\r\nTraceState: a=1 , b=2;x\r\ntracestate: c=3\r\n", `["cc-1-future-format"] ["a=1 , b=2;x" "c=3"]`},
		{"tracestate: \r\n", `[] [""]`},
	} {
		answer := s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\n" + tc.header + "Connection: close\r\n\r\n")
		if _, body, _ := strings.Cut(answer, "\r\n\r\n"); body != tc.want {
			t.Errorf("%q arrives as %s, want %s", tc.header, body, tc.want)
		}
	}
}
