package directorytest

import (
	"math"
	"testing"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// order has pairs of entries, and the verdict on the second where the first is
// stored.
var order = []struct {
	name         string
	stored, next cluster.Entry
	want         cluster.Verdict
}{
	{"the first", cluster.Entry{}, entry("a", 1), cluster.Stored},
	{"the first, without a gen", cluster.Entry{}, entry("a", 0), cluster.Stored},
	{"the same", entry("a", 5), entry("a", 5), cluster.Kept},
	{"newer", entry("a", 5), other("a", 6), cluster.Stored},
	{"older", entry("a", 5), other("a", 4), cluster.Behind},
	{"at the same time", entry("a", 5), other("a", 5), cluster.Behind},
	{"another signature", entry("a", 5), with(entry("a", 5), func(e *cluster.Entry) { e.Sig = "x" }), cluster.Behind},
	{"a later attempt, newer", entry("a", 5), attempt(2, 6), cluster.Stored},
	{"a later attempt, older", entry("a", 5), attempt(2, 4), cluster.Behind},
	{"the same attempt, newer", attempt(2, 5), attempt(2, 6), cluster.Stored},
	{"an earlier attempt, newer", attempt(2, 5), attempt(1, 6), cluster.Superseded},
	{"an earlier attempt, older", attempt(2, 5), attempt(1, 4), cluster.Superseded},
	{"an earlier attempt by far", attempt(math.MaxUint64, 5), attempt(math.MaxUint64-1, 6), cluster.Superseded},
	{"an earlier attempt, in digits", attempt(10, 5), attempt(9, 6), cluster.Superseded},
	{"a later attempt, in digits", attempt(9, 5), attempt(10, 6), cluster.Stored},
	{"an earlier attempt of another instance", attempt(2, 5), other("a", 6), cluster.Stored},
	{"an earlier attempt of none", without(attempt(2, 5)), without(attempt(1, 6)), cluster.Stored},
	{"more digits", entry("a", 999), other("a", 1000), cluster.Stored},
	{"fewer digits", entry("a", 1000), other("a", 999), cluster.Behind},
	{"above 2^53", entry("a", 1<<53), other("a", 1<<53+1), cluster.Stored},
	{"above 2^53, older", entry("a", 1<<53+1), other("a", 1<<53), cluster.Behind},
	{"the highest", entry("a", math.MaxUint64-1), other("a", math.MaxUint64), cluster.Stored},
	{"the highest, twice", entry("a", math.MaxUint64), other("a", math.MaxUint64), cluster.Behind},
	{"above 2^63", entry("a", math.MaxInt64), other("a", math.MaxInt64+1), cluster.Stored},
}

func with(e cluster.Entry, change func(*cluster.Entry)) cluster.Entry {
	change(&e)
	return e
}

func attempt(attempt, gen uint64) cluster.Entry {
	return with(entry("a", gen), func(e *cluster.Entry) { e.Attempt = attempt })
}

func without(e cluster.Entry) cluster.Entry {
	return with(e, func(e *cluster.Entry) { e.Instance = "" })
}

// judge tests the rule itself.
func judge(t *testing.T) {
	t.Parallel()
	for _, o := range order {
		if got := cluster.Judge(o.stored, o.next); got != o.want {
			t.Errorf("%s: verdict %d, want %d", o.name, got, o.want)
		}
	}
}

// judged holds the directory against the rule.
func judged(s *suite) {
	for _, o := range order {
		if o.stored.ID != "" {
			s.put(o.stored, cluster.Stored, cluster.Entry{})
		}
		s.put(o.next, o.want, o.stored)
		now := o.stored
		if o.want == cluster.Stored {
			now = o.next
		}
		s.has(now)
		s.delete(now)
		s.hasNone(now.ID)
	}
}
