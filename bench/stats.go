package main

import (
	"math"
	"slices"
)

// summary describes the values of one metric over all rounds.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// summarize returns the summary of values, all NaN if there are none.
func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{math.NaN(), math.NaN(), math.NaN()}
	}
	return summary{median(values), slices.Min(values), slices.Max(values)}
}

// median returns the middle of values, or the mean of the two in the middle;
// NaN if there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile returns the smallest of sorted that at least the share p (0 to 1)
// of them does not exceed; NaN if there are none.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	i := int(math.Ceil(p*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// pairedRatios divides the value of each round by the other's value of the same
// round, so that anything that slowed down a whole round cancels out. It skips rounds
// that one of the two lacks. The keys are the numbers of the rounds.
func pairedRatios(values, others map[int]float64) []float64 {
	var ratios []float64
	for round, v := range values {
		other, ok := others[round]
		if !ok || other == 0 || math.IsNaN(v) || math.IsNaN(other) {
			continue
		}
		ratios = append(ratios, v/other)
	}
	slices.Sort(ratios)
	return ratios
}
