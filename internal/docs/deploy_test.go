package docs_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v4"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/server"
)

const deploy = "../../deploy/"

// query is an expression of a dashboard or an alert.
type query struct{ where, expr string }

// metric is what an expression may ask of one.
type metric map[string][]string // labels, with their values where all are known

// Labels of requests whose series come with the first request of the kind. The tests
// of package server hold the code against the same words.
var requestLabels = metric{
	"method": nil, "code": nil, "kind": {"request", "upgrade"},
	"failed_hop": {"none", "viewer", "service", "client", "target"},
}

// metrics returns all that /metrics may have, by name: those of docs/metrics.md,
// which a test of package server holds against the code, and those of the process.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]metric)
	for _, m := range regexp.MustCompile("(?m)^\\| `(websocktunnel_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		labels := metric{}
		for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1) {
			labels[l[1]] = requestLabels[l[1]]
		}
		add(all, m[1], m[2] == "histogram", labels)
	}
	if len(all) < 30 {
		t.Fatalf("docs/metrics.md has %d metrics: the pattern does not fit any more", len(all))
	}

	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m, err := server.NewMetrics(server.MetricsConfig{Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	secrets := [][]byte{[]byte("a secret of thirty-two bytes ...")}
	srv, err := server.New(server.Config{
		PublicURL: "http://h", Secrets: secrets, Metrics: m,
		Cluster: &server.ClusterConfig{Directory: new(cluster.Memory), Node: "a", Addr: "h:1", Secrets: secrets},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	for _, op := range []string{"connect", "put", "delete", "get", "beat", "leave", "nodes", "heartbeat", "watch", "ping"} { // see redisdir.Config
		m.Store(op, time.Millisecond, nil)
		m.Store(op, time.Millisecond, errors.New("no answer"))
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		labels := metric{}
		for _, series := range f.GetMetric() {
			for _, l := range series.GetLabel() {
				labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
			}
		}
		for name, values := range requestLabels {
			if _, ok := labels[name]; ok && !strings.HasPrefix(f.GetName(), "websocktunnel_cluster_") {
				labels[name] = values
			}
		}
		if all[f.GetName()] != nil && len(labels) == 0 {
			continue
		}
		add(all, f.GetName(), f.GetType() == dto.MetricType_HISTOGRAM, labels)
	}
	all["up"] = metric{}
	return all
}

// add adds a metric, as it is seen by a Prometheus.
func add(all map[string]metric, name string, histogram bool, labels metric) {
	all[name] = labels
	if histogram {
		withLe := maps.Clone(labels)
		withLe["le"] = nil
		all[name+"_bucket"], all[name+"_sum"], all[name+"_count"] = withLe, labels, labels
		delete(all, name)
	}
}

// target are the labels that Prometheus gives to all that it scrapes.
var target = []string{"job", "instance"}

var (
	grouping   = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	notMetrics = regexp.MustCompile(`\[[^\]]*\]|\boffset\s+\w+|\b(?:and|or|unless|bool|group_left|group_right)\b`)
	selector   = regexp.MustCompile(`([a-zA-Z_:][\w:]*)\s*(\(|\{[^}]*\})?`)
	matcher    = regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
)

// check holds an expression against the metrics that there are. It returns the labels
// that its result may have, and what is wrong with it.
func (q query) check(all map[string]metric) (labels, faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, q.where+": "+fmt.Sprintf(format, args...))
	}
	var grouped []string
	aggregated := false
	for _, m := range grouping.FindAllStringSubmatch(q.expr, -1) {
		aggregated = aggregated || !strings.HasPrefix(m[0], "on")
		for l := range strings.SplitSeq(m[1], ",") {
			grouped = append(grouped, strings.TrimSpace(l))
		}
	}
	rest := notMetrics.ReplaceAllString(grouping.ReplaceAllString(q.expr, ""), "")
	used := 0
	for _, m := range selector.FindAllStringSubmatch(rest, -1) {
		name, in := m[1], m[2]
		if in == "(" {
			continue // a function, whose names promtool knows
		}
		has, ok := all[name]
		if !ok {
			fault("there is no metric %s", name)
			continue
		}
		used++
		labels = append(append(labels, target...), slices.Collect(maps.Keys(has))...)
		matchers := matcher.FindAllStringSubmatch(in, -1)
		if rest := strings.Trim(matcher.ReplaceAllString(in, ""), "{}, "); rest != "" {
			fault("%q is no matcher", rest)
		}
		for _, m := range matchers {
			values, ok := has[m[1]]
			if !ok && !slices.Contains(target, m[1]) {
				fault("%s has no label %s", name, m[1])
			}
			if values == nil || strings.HasPrefix(m[3], "$") {
				continue
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if !slices.Contains(values, value) {
					fault("%s of %s is never %q, but one of %q", m[1], name, value, values)
				}
			}
		}
	}
	if used == 0 {
		fault("no metric in %s", q.expr)
	}
	for _, l := range grouped {
		if !slices.Contains(labels, l) {
			fault("no metric has the label %s", l)
		}
	}
	if aggregated {
		labels = grouped
	}
	return labels, faults
}

// TestAlerts: alerts use metrics and labels that there are, and docs/operating.md
// says what to do about each.
func TestAlerts(t *testing.T) {
	text, err := os.ReadFile(deploy + "prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	guide, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile(deploy + "prometheus/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	all := metrics(t)
	n := 0
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			n++
			labels, faults := query{r.Alert, r.Expr}.check(all)
			for _, f := range faults {
				t.Error(f)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
			}
			for _, name := range []string{"summary", "description"} {
				if r.Annotations[name] == "" {
					t.Errorf("%s has no %s", r.Alert, name)
				}
			}
			for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(fmt.Sprint(r.Annotations), -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: the text has the label %s, and the result has only %q", r.Alert, m[1], labels)
				}
			}
			if !strings.Contains(string(guide), "`"+r.Alert+"`") {
				t.Errorf("docs/operating.md does not say what to do about %s", r.Alert)
			}
			if !regexp.MustCompile(`\b` + r.Alert + `\b`).Match(tests) {
				t.Errorf("alerts_test.yml has no test of %s", r.Alert)
			}
		}
	}
	if n == 0 {
		t.Error("there are no alerts")
	}
}

// TestDashboards: dashboards use metrics and labels that there are, and their panels
// do not lie over each other.
func TestDashboards(t *testing.T) {
	files, err := filepath.Glob(deploy + "grafana/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	all := metrics(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d struct {
			Panels []struct {
				ID      int
				Title   string
				GridPos struct{ X, Y, W, H int }
				Targets []struct{ Expr, RefID string }
			}
		}
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatal(err)
		}
		taken, ids := make(map[[2]int]string), make(map[int]bool)
		for _, p := range d.Panels {
			if ids[p.ID] {
				t.Errorf("%s: a second panel has the id %d", p.Title, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, ok := taken[[2]int{x, y}]; ok {
						t.Fatalf("%s lies over %s", p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			for _, q := range p.Targets {
				_, faults := query{p.Title + " " + q.RefID, q.Expr}.check(all)
				for _, f := range faults {
					t.Error(f)
				}
			}
		}
	}
}

// TestQueryCheck: what is not there is found.
func TestQueryCheck(t *testing.T) {
	all := map[string]metric{
		"m_total": {"hop": {"a", "b"}, "code": nil}, "m_bucket": {"le": nil}, "up": {},
	}
	for expr, good := range map[string]bool{
		`sum by (hop) (rate(m_total{hop="a", code=~"5..", job="x"}[5m])) / 2 > 0.1 and up == 1`: true,
		`histogram_quantile(0.5, sum by (le) (rate(m_bucket[5m])))`:                             true,
		`m_total offset 10m`:            true,
		`rate(n_total[5m])`:             false,
		`m_total{hop="c"}`:              false,
		`m_total{hop=~"a|c"}`:           false,
		`m_total{cod="1"}`:              false,
		`sum by (cod) (m_total)`:        false,
		`m_total{hop="a"} / n_total`:    false,
		`sum without (path) (m_total)`:  false,
		`time() > 5`:                    false,
		`m_total{hop=a}`:                false,
		`m_total and on (instance) up`:  true,
		`m_total{hop=~"$hop"} > 14 * 2`: true,
	} {
		if _, faults := (query{"here", expr}).check(all); (len(faults) == 0) != good {
			t.Errorf("%s: faults %q", expr, faults)
		}
	}
}
