package h2conn

import (
	"net/http"
	"sync/atomic"
)

const (
	// defaultRequestMemory is what the headers of all requests may hold.
	defaultRequestMemory = 16 << 20

	// smallRequest is what the header of a request may cost that is served however
	// much the others hold: those of ordinary viewers are smaller.
	smallRequest = 16 << 10

	// What a request, one of its fields and one value of a field cost beside their
	// bytes, in this package and in a handler that makes another request of it, as
	// target.Proxy does. Roughly: a test of the tunnel client looks at all it holds.
	requestCost = 4 << 10
	fieldCost   = 160
	valueCost   = 48
)

// A Budget bounds what the requests in flight on one or several connections hold:
// their headers, by what they cost in memory. A request that does not fit is
// answered 503, unless it is a small one. The zero value is ready to use.
type Budget struct {
	held atomic.Int64
}

// take takes a request's cost from the budget, and reports whether there was enough.
func (b *Budget) take(cost int64) bool {
	if b.held.Add(cost) <= defaultRequestMemory || cost <= smallRequest {
		return true
	}
	b.held.Add(-cost)
	return false
}

// give gives back what take took.
func (b *Budget) give(cost int64) { b.held.Add(-cost) }

// costOf returns what the header of r costs in memory.
func costOf(r *http.Request) int64 {
	cost := requestCost + len(r.RequestURI)
	for _, h := range [...]http.Header{r.Header, r.Trailer} {
		for k, vv := range h {
			cost += fieldCost + len(k)
			for _, v := range vv {
				cost += valueCost + len(v)
			}
		}
	}
	return int64(cost)
}
