package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// results is everything that one run has measured. It is the JSON output.
type results struct {
	Date      time.Time         `json:"date"`
	Machine   machine           `json:"machine"`
	Builds    map[string]string `json:"builds"` // what our builds say about themselves
	Note      string            `json:"note,omitempty"`
	Rounds    int               `json:"rounds"`
	Quick     bool              `json:"quick,omitempty"`
	Workloads []*workloadResult `json:"workloads"`
}

type workloadResult struct {
	Name        string              `json:"name"`
	Title       string              `json:"title"`
	Metrics     []metric            `json:"metrics"`
	Yardstick   string              `json:"yardstick,omitempty"`
	Contestants []*contestantResult `json:"contestants"`
}

type contestantResult struct {
	Name  string `json:"name"`
	Label string `json:"label"`

	// Rounds has the measured values, by the number of the round, from 0.
	Rounds map[int]values `json:"rounds"`

	// Summary has the median and the extremes of each metric.
	Summary map[string]summary `json:"summary,omitempty"`

	// Ratio compares the first metric with the yardstick's of the same round,
	// RatioA, for build B, with build A's. RatiosA does so for every metric.
	Ratio   *summary           `json:"ratio,omitempty"`
	RatioA  *summary           `json:"ratio_a,omitempty"`
	RatiosA map[string]summary `json:"ratios_a,omitempty"`

	// Error is why it was not measured, or not in all rounds.
	Error string `json:"error,omitempty"`
}

// column returns the values of one metric, by the number of the round.
func (c *contestantResult) column(key string) map[int]float64 {
	column := map[int]float64{}
	for round, v := range c.Rounds {
		if x, ok := v[key]; ok {
			column[round] = x
		}
	}
	return column
}

// ratios compares one metric of c with another contestant's; nil if they have
// no round in common.
func (c *contestantResult) ratios(other *contestantResult, key string) *summary {
	if other == nil {
		return nil
	}
	ratios := pairedRatios(c.column(key), other.column(key))
	if len(ratios) == 0 {
		return nil
	}
	s := summarize(ratios)
	return &s
}

// named returns the contestant of a name, or nil.
func (w *workloadResult) named(name string) *contestantResult {
	for _, c := range w.Contestants {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// summarize computes the summaries and ratios of all contestants.
func (w *workloadResult) summarize() {
	for _, c := range w.Contestants {
		c.Summary = map[string]summary{}
		for _, m := range w.Metrics {
			var all []float64
			for _, v := range c.column(m.Key) {
				all = append(all, v)
			}
			if len(all) > 0 {
				c.Summary[m.Key] = summarize(all)
			}
		}
		c.Ratio = c.ratios(w.named(w.Yardstick), w.Metrics[0].Key)
		rest, isB := strings.CutPrefix(c.Name, nameOursB)
		if !isB {
			continue
		}
		a := w.named(nameOurs + rest)
		c.RatioA = c.ratios(a, w.Metrics[0].Key)
		c.RatiosA = map[string]summary{}
		for _, m := range w.Metrics {
			if r := c.ratios(a, m.Key); r != nil {
				c.RatiosA[m.Key] = *r
			}
		}
	}
}

// failure is an error if one of our own builds could not be measured. A slow
// result is not an error.
func (r *results) failure() error {
	var errs []error
	for _, w := range r.Workloads {
		for _, c := range w.Contestants {
			if c.Error != "" && strings.HasPrefix(c.Name, nameOurs) {
				errs = append(errs, fmt.Errorf("%s: %s could not be measured", w.Name, c.Label))
			}
		}
	}
	return errors.Join(errs...)
}

// writeJSON writes the results to a file, unless its name is empty.
func (r *results) writeJSON(name string) error {
	if name == "" {
		return nil
	}
	js, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(js, '\n'), 0o644)
}
