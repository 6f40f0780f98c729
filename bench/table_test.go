package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a small result with two builds of ours.
func sample() *workloadResult {
	rounds := func(rates ...float64) map[int]values {
		m := map[int]values{}
		for i, rate := range rates {
			m[i] = values{metricRate: rate, metricP99: 1000 / rate}
		}
		return m
	}
	w := &workloadResult{
		Name:      "sample",
		Title:     "a sample",
		Metrics:   []metric{{Key: metricRate, Label: "requests/s", Better: more}, {Key: metricP99, Label: "p99 ms", Better: less}},
		Yardstick: nameH2C,
		Contestants: []*contestantResult{
			{Name: nameH2C, Label: "yard", Rounds: rounds(1000, 500, 1100)},
			{Name: nameOurs, Label: "A", Rounds: rounds(2000, 1000, 2200)},
			{Name: nameOursB, Label: "B", Rounds: rounds(3000, 1500)},
			{Name: "piko", Label: "a peer", Rounds: rounds(), Error: "did not start"},
		},
	}
	w.summarize()
	return w
}

func TestTable(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	sample().print(&out)
	want := `
sample: a sample
                    requests/s        spread  × yardstick  B × A  p99 ms
  yard (yardstick)        1000   500 to 1100         1.00      –    1.00
  A                       2000  1000 to 2200         2.00      –    0.50
  B                       2250  1500 to 3000         3.00   1.50    0.50
  B × A: p99 ms 0.67
  not measured: a peer: did not start
`
	if got := out.String(); got != want {
		t.Errorf("table:\n%s\nwant:\n%s", got, want)
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]string{0: "0.00", 1.234: "1.23", 12.34: "12.3", 1234.5: "1234", -55: "-55.0"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) = %q, want %q", x, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "out.json")
	if err := (&results{Rounds: 3, Workloads: []*workloadResult{sample()}}).writeJSON(name); err != nil {
		t.Fatal(err)
	}
	js, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var back results
	if err := json.Unmarshal(js, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Workloads[0].named(nameOursB).RatioA.Median; got != 1.5 {
		t.Errorf("B × A = %v, want 1.5", got)
	}
}

func TestSVG(t *testing.T) {
	t.Parallel()
	w := sample()
	w.Contestants[0].Label = `a < b & "c"`
	r := &results{Workloads: []*workloadResult{w}}
	svg := r.svg()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	if strings.Contains(svg, "href") || strings.Contains(svg, "url(") {
		t.Error("the plot refers to something outside")
	}
	if n := strings.Count(svg, "<title>"); n != 3 {
		t.Errorf("%d contestants are drawn, want 3", n)
	}
}

// A peer that does not start is no failure of the run, one of our builds is.
func TestFailure(t *testing.T) {
	t.Parallel()
	w := sample()
	r := &results{Workloads: []*workloadResult{w}}
	if err := r.failure(); err != nil {
		t.Errorf("a failed peer: %v", err)
	}
	w.named(nameOurs).Error = "gone"
	if err := r.failure(); err == nil {
		t.Error("a build of ours failed and the run did not")
	}
}
