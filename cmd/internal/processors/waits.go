package processors

import "runtime/metrics"

// waits tells how long goroutines that are ready to run have to wait, of which the runtime
// keeps a sample.
type waits struct {
	sample    []metrics.Sample
	all, long uint64 // until the last time
}

func newWaits() *waits {
	w := &waits{sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	w.late()
	return w
}

// late returns which part of them has waited for longWait or more since the last time.
func (w *waits) late() float64 {
	metrics.Read(w.sample)
	if w.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0
	}
	var all, long uint64
	h := w.sample[0].Value.Float64Histogram()
	for i, n := range h.Counts {
		all += n
		if h.Buckets[i] >= longWait.Seconds() {
			long += n
		}
	}
	newly, newlyLong := all-w.all, long-w.long
	w.all, w.long = all, long
	return float64(newlyLong) / float64(max(newly, 1))
}
