package directorytest

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

func isAbsent(err error) bool { return errors.Is(err, cluster.ErrAbsent) }

func stored(s *suite) {
	s.hasNone("a")
	s.put(entry("a", 5), cluster.Stored, cluster.Entry{})
	s.has(entry("a", 5))
	s.hasNone("b")
}

func kept(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.put(e, cluster.Kept, e)
	s.put(e, cluster.Kept, e)
	s.has(e)
}

func replaced(s *suite) {
	first, second, third := entry("a", 5), other("a", 6), entry("a", 7)
	s.put(first, cluster.Stored, cluster.Entry{})
	s.put(second, cluster.Stored, first)
	s.has(second)
	s.put(third, cluster.Stored, second)
	s.has(third)
}

func behind(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.put(other("a", 4), cluster.Behind, e)
	s.has(e)
	s.put(other("a", 6), cluster.Stored, e)
}

func sameGen(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.put(other("a", 5), cluster.Behind, e)
	s.has(e)
}

// changes has each field of an entry changed once.
var changes = []func(*cluster.Entry){
	func(e *cluster.Entry) { e.Node = "x" },
	func(e *cluster.Entry) { e.Boot = "x" },
	func(e *cluster.Entry) { e.Instance = "x" },
	func(e *cluster.Entry) { e.Attempt++ },
	func(e *cluster.Entry) { e.Sig = "x" },
	func(e *cluster.Entry) { e.Sig = "" },
	func(e *cluster.Entry) { e.Node, e.Boot = e.Boot, e.Node },
}

func fields(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	for _, change := range changes {
		s.put(with(e, change), cluster.Behind, e)
	}
	s.has(e)
}

func laterAttempt(s *suite) {
	first := attempt(1, 5)
	s.put(first, cluster.Stored, cluster.Entry{})
	s.put(attempt(2, 4), cluster.Behind, first)
	s.put(attempt(2, 6), cluster.Stored, first)
	s.has(attempt(2, 6))
}

func superseded(s *suite) {
	second := attempt(2, 5)
	s.put(second, cluster.Stored, cluster.Entry{})
	s.put(attempt(1, 4), cluster.Superseded, second)
	s.put(attempt(1, 6), cluster.Superseded, second)
	s.has(second)
}

func otherInstance(s *suite) {
	first := attempt(100, 5)
	s.put(first, cluster.Stored, cluster.Entry{})
	s.put(other("a", 6), cluster.Stored, first)
}

func noInstance(s *suite) {
	first, second := without(attempt(100, 5)), without(attempt(1, 6))
	s.put(first, cluster.Stored, cluster.Entry{})
	s.put(second, cluster.Stored, first)
}

func gens(s *suite) {
	var before cluster.Entry
	for i, gen := range []uint64{
		0, 1, 9, 10, 99, 100, 1_800_000_000_000_000, 1_800_000_000_000_001,
		1<<53 - 1, 1 << 53, 1<<53 + 1, 1<<53 + 2, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64 - 1, math.MaxUint64,
	} {
		e := entry("a", gen)
		if i%2 == 1 {
			e = other("a", gen)
		}
		s.put(e, cluster.Stored, before)
		if before.ID != "" {
			s.put(before, cluster.Behind, e)
		}
		s.has(e)
		before = e
	}
}

func several(s *suite) {
	s.put(entry("kept", 5), cluster.Stored, cluster.Entry{})
	s.put(entry("replaced", 5), cluster.Stored, cluster.Entry{})
	s.put(entry("behind", 5), cluster.Stored, cluster.Entry{})
	later := with(entry("superseded", 5), func(e *cluster.Entry) { e.Attempt = 2 })
	s.put(later, cluster.Stored, cluster.Entry{})
	s.outcomes([]cluster.Entry{
		entry("kept", 5), other("replaced", 6), other("behind", 4), entry("superseded", 6), entry("new", 1),
	}, []cluster.Outcome{
		{Verdict: cluster.Kept, Before: entry("kept", 5)},
		{Verdict: cluster.Stored, Before: entry("replaced", 5)},
		{Verdict: cluster.Behind, Before: entry("behind", 5)},
		{Verdict: cluster.Superseded, Before: later},
		{Verdict: cluster.Stored},
	})
	s.has(other("replaced", 6))
	s.has(entry("new", 1))
}

func none(s *suite) {
	s.outcomes(nil, nil)
	s.delete()
}

func many(s *suite) {
	n := cmp.Or(s.Many, 10_000)
	first := make([]cluster.Entry, n)
	second := make([]cluster.Entry, n)
	want := make([]cluster.Outcome, n)
	for i := range n {
		id := fmt.Sprintf("tunnel-%d", i)
		first[i], second[i] = entry(id, uint64(i)), other(id, uint64(i+1))
		want[i] = cluster.Outcome{Verdict: cluster.Stored}
	}
	s.outcomes(first, want)
	for i := range n {
		want[i] = cluster.Outcome{Verdict: cluster.Kept, Before: first[i]}
	}
	s.outcomes(first, want)
	for i := range n {
		want[i] = cluster.Outcome{Verdict: cluster.Stored, Before: first[i]}
	}
	s.outcomes(second, want)
	s.has(second[0])
	s.has(second[n-1])
	s.delete(second...)
	s.hasNone(second[0].ID)
	s.hasNone(second[n-1].ID)
}

func deleted(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.delete(e)
	s.hasNone("a")
	s.delete(e)
	s.put(other("a", 1), cluster.Stored, cluster.Entry{})
}

func notDeleted(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.delete(with(e, func(e *cluster.Entry) { e.Gen-- }))
	s.delete(with(e, func(e *cluster.Entry) { e.Gen *= 10 }))
	for _, change := range changes {
		s.delete(with(e, change))
	}
	s.delete(entry("b", 5))
	s.has(e)
}

func deletedMany(s *suite) {
	var all []cluster.Entry
	for i := range 300 {
		e := entry(fmt.Sprintf("tunnel-%d", i), 5)
		if all = append(all, e); i%2 == 0 {
			s.put(e, cluster.Stored, cluster.Entry{})
		}
	}
	s.delete(all...)
	for _, e := range all[:10] {
		s.hasNone(e.ID)
	}
}

func absent(s *suite) {
	for _, id := range []string{"a", "tunnel-1", strings.Repeat("z", 63)} {
		s.hasNone(id)
	}
}

func characters(s *suite) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789-"
	ids := []string{letters, strings.Repeat("z", 63), strings.Repeat("-", 63), "a-", "-a", "x--abc", "xn--abc"}
	for _, c := range letters {
		ids = append(ids, string(c), "a"+string(c))
	}
	for i, id := range ids[:len(ids)-1] {
		if id == "a-" && i > 6 { // it is in the list twice
			continue
		}
		s.put(entry(id, uint64(i)), cluster.Stored, cluster.Entry{})
	}
	s.has(entry(letters, 0))
	s.has(entry("xn--abc", 6))
	s.has(entry("-a", 4))
}

func texts(s *suite) {
	for i, text := range []string{
		"", " ", "  ", "a b", " a", "a ", "\n", "a\r\nb", "\x00", "\xff\xfe", "{a}", "%", "%20", "%2", "+", "a+b", "\"'`\\",
		"ü 世界 🚇", "1 2 3", "*3\r\n$3\r\nSET\r\n", "$-1", "return", "]]", "nil", "-", "a|b,c;d:e=f&g/h?i#j",
		strings.Repeat("x", 200), strings.Repeat("\x01", 100),
	} {
		e := entry(fmt.Sprintf("text-%d", i), 5)
		e.Instance = text
		s.put(e, cluster.Stored, cluster.Entry{})
		s.put(e, cluster.Kept, e)
		s.has(e)
		if text != "" {
			s.put(with(e, func(e *cluster.Entry) { e.Attempt, e.Gen = 0, 9 }), cluster.Superseded, e)
		}
		next := with(e, func(e *cluster.Entry) { e.Gen, e.Node, e.Boot, e.Sig = 6, text, text, text })
		s.put(next, cluster.Stored, e)
		s.has(next)
		s.delete(e)
		s.has(next)
		s.delete(next)
		s.hasNone(e.ID)
	}
}

// lives fails the test unless the entry of id lives for about as long as it should
// after it was put.
func (s *suite) lives(e cluster.Entry) {
	s.Helper()
	if s.Advance == nil {
		if life := s.EntryLife(e.ID); life > cluster.EntryLife || life < cluster.EntryLife-2*limit {
			s.Fatalf("the entry lives for another %v, not %v", life, cluster.EntryLife)
		}
		return
	}
	s.Advance(cluster.EntryLife - time.Second)
	s.has(e)
}

func entryExpires(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.lives(e)
	if s.Advance == nil {
		return
	}
	s.Advance(time.Second)
	s.hasNone("a")
	s.put(other("a", 1), cluster.Stored, cluster.Entry{})
	s.has(other("a", 1))
}

func entryRefreshed(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.lives(e)
	s.put(e, cluster.Kept, e)
	s.lives(e)
	next := other("a", 6)
	s.put(next, cluster.Stored, e)
	s.lives(next)
}

func entryNotRefreshed(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	s.lives(e)
	s.put(other("a", 4), cluster.Behind, e)
	if s.Advance == nil {
		s.lives(e)
		return
	}
	s.Advance(time.Second)
	s.hasNone("a")
}

func concurrent(s *suite) {
	const n = 32
	entries := make([]cluster.Entry, n)
	outcomes := make([]cluster.Outcome, n)
	var all sync.WaitGroup
	for i := range n {
		e := entry("a", uint64(i+1))
		e.Instance = fmt.Sprintf("instance-%d", i)
		entries[i] = e
		all.Go(func() {
			d := s.Directory
			if i%2 == 1 {
				d = s.Other
			}
			out, err := d.Put(s.ctx, []cluster.Entry{e})
			if err != nil {
				s.Errorf("Put: %v", err)
				return
			}
			outcomes[i] = out[0]
		})
	}
	all.Wait()
	if s.Failed() {
		return
	}
	s.has(entries[n-1])
	// The stored ones are a chain: each has replaced the one before it, and nobody
	// has replaced one twice.
	replaced := make(map[uint64]bool)
	for i, o := range outcomes {
		switch o.Verdict {
		case cluster.Stored:
			if o.Before.Gen >= entries[i].Gen || replaced[o.Before.Gen] {
				s.Errorf("%d has replaced %d, %v", entries[i].Gen, o.Before.Gen, replaced)
			}
			replaced[o.Before.Gen] = true
		case cluster.Behind:
			if o.Before.Gen <= entries[i].Gen {
				s.Errorf("%d is said to be behind %d", entries[i].Gen, o.Before.Gen)
			}
		default:
			s.Errorf("%d: %+v", entries[i].Gen, o)
		}
	}
	for i, o := range outcomes {
		if o.Verdict == cluster.Stored && i < n-1 && !replaced[entries[i].Gen] {
			s.Errorf("%d was stored, is not in force, and nobody has replaced it", entries[i].Gen)
		}
	}
}

func shared(s *suite) {
	e := entry("a", 5)
	s.put(e, cluster.Stored, cluster.Entry{})
	if got, err := s.Other.Get(s.ctx, "a"); err != nil || got != e {
		s.Errorf("the other one has %+v, %v", got, err)
	}
	if err := s.Other.Delete(s.ctx, []cluster.Entry{e}); err != nil {
		s.Error(err)
	}
	s.hasNone("a")
}
