package main

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"one", []float64{7}, 7},
		{"odd", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 3, 100}, 3.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := median(tt.values); got != tt.want {
				t.Errorf("median(%v) = %v, want %v", tt.values, got, tt.want)
			}
		})
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want NaN", got)
	}
	in := []float64{3, 1, 2}
	median(in)
	if in[0] != 3 {
		t.Error("median has sorted the caller's slice")
	}
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	for _, tt := range []struct {
		sorted []float64
		p      float64
		want   float64
	}{
		{hundred, 0.5, 50},
		{hundred, 0.99, 99},
		{hundred, 1, 100},
		{hundred, 0, 1},
		{[]float64{8}, 0.99, 8},
		{[]float64{1, 2, 3}, 0.5, 2},
	} {
		if got := percentile(tt.sorted, tt.p); got != tt.want {
			t.Errorf("percentile of %d values at %v = %v, want %v", len(tt.sorted), tt.p, got, tt.want)
		}
	}
	if got := percentile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("percentile of nothing = %v, want NaN", got)
	}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	if got, want := summarize([]float64{3, 1, 2}), (summary{2, 1, 3}); got != want {
		t.Errorf("summarize = %v, want %v", got, want)
	}
}

// A machine that is half as fast in one round must not show in the ratios.
func TestPairedRatios(t *testing.T) {
	t.Parallel()
	ours := map[int]float64{0: 200, 1: 100, 2: 210, 3: 5, 4: 5}
	yardstick := map[int]float64{0: 100, 1: 50, 2: 100, 4: 0}
	got := pairedRatios(ours, yardstick)
	if len(got) != 3 || got[0] != 2 || got[1] != 2 || got[2] != 2.1 {
		t.Errorf("pairedRatios = %v, want [2 2 2.1]", got)
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	stat := "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 9 0 1000 1 1"
	got, err := parseStat([]byte(stat))
	if want := 168 * clockTick; err != nil || got != want {
		t.Errorf("parseStat = %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "42 (x) S 1 2", "42 (x) S 1 42 42 0 -1 4194560 100 0 0 0 a 45 0"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) succeeds", bad)
		}
	}
}

func TestCountGoroutines(t *testing.T) {
	t.Parallel()
	dump := "SIGQUIT: quit\n\ngoroutine 0 gp=0x1 m=0 mp=0x2 [idle]:\nf()\n\ngoroutine 1 [select, 3 minutes]:\nmain.main()\ncreated by x in goroutine 1\n\ngoroutine 7 [IO wait]:\n"
	if got := countGoroutines([]byte(dump)); got != 2 {
		t.Errorf("countGoroutines = %d, want 2: goroutine 0 is none of the program's", got)
	}
}
