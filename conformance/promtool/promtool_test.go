package promtool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/websocktunnel/websocktunnel/conformance/internal/harness"
	"github.com/websocktunnel/websocktunnel/server"
)

const deploy = "../../deploy/"

// promtool runs promtool in a directory, and fails the test if it complains.
func promtool(t *testing.T, dir, stdin string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		harness.Missing(t, "promtool")
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestAlerts: the rules are valid, and each fires on what it is for.
func TestAlerts(t *testing.T) {
	promtool(t, deploy+"prometheus", "", "check", "rules", "alerts.yml")
	promtool(t, deploy+"prometheus", "", "test", "rules", "alerts_test.yml")
}

// TestDashboards: Prometheus understands what the dashboards ask.
func TestDashboards(t *testing.T) {
	files, err := filepath.Glob(deploy + "grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$__interval", "1m", "$__range", "1h")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		var rules bytes.Buffer // each expression as a recording rule, for the check
		fmt.Fprintln(&rules, "groups:\n- name: dashboard\n  rules:")
		n := 0
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				n++
				fmt.Fprintf(&rules, "  - record: panel:%d\n    expr: %q\n", n, variables.Replace(q.Expr))
			}
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "rules.yml"), rules.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		promtool(t, dir, "", "check", "rules", "rules.yml")
	}
}

// TestMetrics: Prometheus reads the metrics of a service with a tunnel, and has
// nothing to say about their names.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := server.NewMetrics(server.MetricsConfig{
		Registerer: reg, PerTunnel: 10,
		DroppedLogLines: func() uint64 { return 0 }, CertificateExpiry: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := harness.Start(t, harness.Options{Server: server.Config{Metrics: m}})
	url := s.Client("a%2Fb", http.NotFoundHandler())
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if !strings.Contains(w.Body.String(), `websocktunnel_tunnel_requests_in_flight{id="a%2Fb"}`) {
		t.Errorf("the tunnel has no metrics: %s", w.Body)
	}
	promtool(t, "", w.Body.String(), "check", "metrics")
}
