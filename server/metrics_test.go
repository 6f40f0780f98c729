package server

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

var update = flag.Bool("update", false, "write the references in docs/ anew")

// newMetrics returns Metrics with everything on but those of single tunnels, and
// their registry.
func newMetrics(t testing.TB) (*Metrics, *prometheus.Registry) {
	t.Helper()
	return newMetricsOf(t, 0)
}

// newMetricsOf is newMetrics with those of so many tunnels.
func newMetricsOf(t testing.TB, tunnels int) (*Metrics, *prometheus.Registry) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := NewMetrics(MetricsConfig{
		Registerer:        reg,
		DroppedLogLines:   func() uint64 { return 7 },
		CertificateExpiry: func() time.Time { return time.Unix(1e9, 0) },
		PerTunnel:         tunnels,
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, reg
}

// gathered returns what reg has, by name.
func gathered(t testing.TB, reg prometheus.Gatherer) map[string]*dto.MetricFamily {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		all[f.GetName()] = f
	}
	return all
}

// value returns the value of one series, a histogram's count; labels are as in
// `a="b",c="d"`, in the order of their names.
func value(t testing.TB, reg prometheus.Gatherer, name, labels string) float64 {
	t.Helper()
	for _, m := range gathered(t, reg)[name].GetMetric() {
		var pairs []string
		for _, l := range m.GetLabel() {
			pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
		}
		if strings.Join(pairs, ",") == labels {
			if h := m.GetHistogram(); h != nil {
				return float64(h.GetSampleCount())
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return 0
}

// TestMetrics: what happens is counted, where it belongs.
func TestMetrics(t *testing.T) {
	m, reg := newMetrics(t)
	s := newService(t, Config{Metrics: m})
	c := s.connect("a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			w.Header().Set(wire.HeaderError, "connection_refused")
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		io.WriteString(w, strings.Repeat("x", int(n)+5))
	}))
	s.waitActive(c)
	s.get("/a/")
	if resp, err := s.http.Post(s.url+"/a/", "", strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	} else {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	s.get("/a/refused")
	s.get("/nobody/")
	s.get("/")
	s.raw("BREW /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	s.raw("GET /a/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUpgrade: a\x01b\r\n\r\n") // cannot be carried
	if _, _, err := s.dial("a", "no token"); err == nil {
		t.Fatal("a registration without a token")
	}
	const requests = "websocktunnel_requests_total"
	for _, want := range []struct {
		name, labels string
		value        float64
	}{
		{requests, `code="200",failed_hop="none",method="GET"`, 1},
		{requests, `code="200",failed_hop="none",method="POST"`, 1},
		{requests, `code="200",failed_hop="none",method="other"`, 1},
		{requests, `code="502",failed_hop="target",method="GET"`, 1},
		{requests, `code="404",failed_hop="service",method="GET"`, 2},
		{"websocktunnel_request_duration_seconds", `kind="request"`, 5},
		{"websocktunnel_request_first_byte_seconds", `kind="request"`, 5},
		{"websocktunnel_received_bytes_total", "", 10},
		{"websocktunnel_sent_bytes_total", "", 5 + 15 + 5},
		{"websocktunnel_failures_total", `error_code="WT-TARGET-REFUSED"`, 1},
		{"websocktunnel_failures_total", `error_code="WT-NO-TUNNEL"`, 1},
		{"websocktunnel_failures_total", `error_code="WT-NOT-FOUND"`, 1},
		{"websocktunnel_failures_total", `error_code="WT-TOKEN"`, 1},
		{"websocktunnel_registrations_total", `outcome="registered"`, 1},
		{"websocktunnel_registrations_total", `outcome="refused_401"`, 1},
		{"websocktunnel_handshake_seconds", "", 1},
		{"websocktunnel_ping_round_trip_seconds", "", 1},
		{"websocktunnel_tunnels", "", 1},
		{"websocktunnel_sessions", `state="active"`, 1},
		{"websocktunnel_request_slots", "", 200},
		{"websocktunnel_draining", "", 0},
		{"websocktunnel_log_lines_dropped_total", "", 7},
		{"websocktunnel_certificate_expiry_timestamp_seconds", "", 1e9},
	} {
		waitFor(t, func() bool { return value(t, reg, want.name, want.labels) == want.value })
	}

	s.waitActive(s.connect("a", http.NotFoundHandler()))
	waitFor(t, func() bool { return value(t, reg, "websocktunnel_session_replacements_total", "") == 1 })
	waitFor(t, func() bool {
		return value(t, reg, "websocktunnel_session_ends_total", `reason="replaced"`) == 1
	})
	s.Close()
	if got := value(t, reg, "websocktunnel_draining", ""); got != 1 {
		t.Errorf("draining is %v after Close", got)
	}
	if got := value(t, reg, "websocktunnel_session_ends_total", `reason="draining"`); got != 1 {
		t.Errorf("%v sessions ended by draining, want 1", got)
	}
}

// TestMetricsAreBounded: neither viewers nor targets nor ids make series.
func TestMetricsAreBounded(t *testing.T) {
	m, reg := newMetrics(t)
	s := newService(t, Config{Metrics: m})
	s.waitActive(s.connect("an-id", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var status int
		fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
	})))
	for status := 200; status < 1000; status += 7 {
		s.get(fmt.Sprintf("/an-id/%d", status))
	}
	for _, method := range []string{"A", "B", "GETT", "get"} {
		s.raw(method + " /an-id/299 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	}
	for name, f := range gathered(t, reg) {
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				v := l.GetValue()
				if strings.Contains(v, "an-id") || strings.Contains(v, "127.0.0.1") {
					t.Errorf("%s has the label %s=%q", name, l.GetName(), v)
				}
				if l.GetName() == "code" && v != "other" && v != "none" && http.StatusText(atoi(v)) == "" {
					t.Errorf("%s has the code %q", name, v)
				}
				if l.GetName() == "method" && !slices.Contains([]string{"GET", "other"}, v) {
					t.Errorf("%s has the method %q", name, v)
				}
			}
		}
	}
}

func atoi(s string) (n int) {
	fmt.Sscan(s, &n)
	return n
}

// TestMetricsPerTunnel: the tunnels that carry most have series of their own, and no
// more of them than was asked for, whatever comes and goes.
func TestMetricsPerTunnel(t *testing.T) {
	m, reg := newMetricsOf(t, 2)
	s := newService(t, Config{Metrics: m})
	if got := value(t, reg, "websocktunnel_tunnels_without_series", ""); got != 0 {
		t.Errorf("%v tunnels are left out of none", got)
	}
	for i, id := range []string{"a", "b%2Fc", "d", "e"} {
		s.waitActive(s.connect(id, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/refused") {
				w.Header().Set(wire.HeaderError, "connection_refused")
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			io.WriteString(w, strings.Repeat("x", 10*i))
		})))
		s.get("/" + id + "/")
	}
	s.get("/e/refused")
	for _, want := range []struct {
		name, labels string
		value        float64
	}{
		{"websocktunnel_tunnel_sent_bytes_total", `id="d"`, 20},
		{"websocktunnel_tunnel_sent_bytes_total", `id="e"`, 30},
		{"websocktunnel_tunnel_failed_requests_total", `id="e"`, 1},
		{"websocktunnel_tunnels_without_series", "", 2},
	} {
		waitFor(t, func() bool { return value(t, reg, want.name, want.labels) == want.value })
	}
	for name, f := range gathered(t, reg) {
		if n := len(f.GetMetric()); strings.HasPrefix(name, "websocktunnel_tunnel_") && n != 2 {
			t.Errorf("%s has %d series, want 2", name, n)
		}
	}
	if got := value(t, reg, "websocktunnel_tunnel_ping_round_trip_seconds", `id="d"`); got <= 0 {
		t.Errorf("the last ping of d took %v s", got)
	}
	if got := value(t, reg, "websocktunnel_tunnel_connected_timestamp_seconds", `id="d"`); time.Since(time.UnixMilli(int64(got*1000))).Abs() > time.Minute {
		t.Errorf("d connected at %v", got)
	}
	s.Evict("e")
	waitFor(t, func() bool { return value(t, reg, "websocktunnel_tunnel_sent_bytes_total", `id="b%2Fc"`) == 10 })
	if got := value(t, reg, "websocktunnel_tunnel_sent_bytes_total", `id="e"`); got != 0 {
		t.Errorf("a tunnel that has gone has series")
	}
}

// TestMetricsConventions: names and help are as the linter of Prometheus wants
// them, and histograms have both forms.
func TestMetricsConventions(t *testing.T) {
	m, reg := newMetricsOf(t, 1)
	d := new(cluster.Memory)
	s := newNode(t, "a", d, Config{Metrics: m})
	newNode(t, "b", d, Config{})
	s.waitNodes(2)
	s.waitActive(s.connect("a", http.NotFoundHandler()))
	m.Store("get", time.Millisecond, nil)
	m.request(http.MethodGet, &outcome{status: 200})
	problems, err := testutil.GatherAndLint(reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for name, f := range gathered(t, reg) {
		if f.GetType() != dto.MetricType_HISTOGRAM {
			continue
		}
		if h := f.GetMetric()[0].GetHistogram(); len(h.GetBucket()) == 0 || h.Schema == nil {
			t.Errorf("%s is not both a classic and a native histogram", name)
		}
	}
}

// TestMetricsReference holds docs/metrics.md against the code. "go test ./server
// -run MetricsReference -update" writes it anew.
func TestMetricsReference(t *testing.T) {
	m, reg := newMetricsOf(t, 1)
	d := new(cluster.Memory)
	s := newNode(t, "a", d, Config{Metrics: m})
	newNode(t, "b", d, Config{})
	s.waitNodes(2)
	s.waitActive(s.connect("a", http.NotFoundHandler()))
	m.Store("get", time.Millisecond, nil)
	m.request(http.MethodGet, &outcome{status: 200})
	var rows []string
	for name, f := range gathered(t, reg) {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	slices.Sort(rows)
	want := "\n| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n" + strings.Join(rows, "") + "\n"

	const file, begin, end = "../docs/metrics.md", "<!-- made from the code: begin -->\n", "<!-- made from the code: end -->"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has not the lines %q and %q", file, begin, end)
	}
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not current: go test ./server -run MetricsReference -update", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestMetricsBelongToOneServer: two would be counted as one.
func TestMetricsBelongToOneServer(t *testing.T) {
	m, reg := newMetrics(t)
	newService(t, Config{Metrics: m})
	_, err := New(Config{PublicURL: "http://h", Secrets: [][]byte{testSecret}, Metrics: m})
	if err == nil || !strings.Contains(err.Error(), "Metrics") {
		t.Errorf("a second Server with the same Metrics: %v", err)
	}
	if _, err := NewMetrics(MetricsConfig{Registerer: reg}); err == nil {
		t.Error("the same metrics were registered twice")
	}
	if _, err := NewMetrics(MetricsConfig{}); err == nil {
		t.Error("metrics without a Registerer")
	}
}

// BenchmarkMetricsRequest is what one request costs more with metrics.
func BenchmarkMetricsRequest(b *testing.B) {
	m, _ := newMetrics(b)
	now := time.Now()
	o := &outcome{status: 200, start: now, begun: now.Add(3 * time.Millisecond), end: now.Add(4 * time.Millisecond)}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.request(http.MethodGet, o)
		}
	})
}
