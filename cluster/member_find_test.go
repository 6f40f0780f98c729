package cluster_test

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

func TestFindLocalCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, new(cluster.Memory), "a", "b")[0]
		a.Register("id", cluster.Origin{})
		synctest.Wait()
		before := a.line.ops()
		for range 1000 {
			if !a.Holds("id") {
				t.Fatal("lost")
			}
		}
		if got := a.line.ops() - before; got != 0 {
			t.Errorf("%d operations for requests to an id that is served here", got)
		}
	})
}

// Whether "absent" is an answer depends on whether the directory has all that it was told.
func TestAbsentOrUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "no-id", "absent")

		a.line.cutOff()
		a.wantAt(t, "other-id", "unknown")
		elapse(time.Second)
		a.wantAt(t, "no-id", "unknown") // nor is what was absent
		a.wantAt(t, "id", "b")          // but what is known stays
		a.line.heal()
		elapse(time.Second)
		if a.Status().Whole {
			t.Error("whole at once, after events may have been missed")
		}
		elapse(cluster.Reassertion + 2*cluster.BeatEvery)
		a.wantAt(t, "no-id", "absent")

		a.line.set(func(l *line) { l.dead = true })
		a.wantAt(t, "no-id", "absent") // a moment ago
		elapse(time.Second)
		before := time.Now()
		a.wantAt(t, "no-id", "unknown")
		if d := time.Since(before); d > cluster.LookupTimeout {
			t.Errorf("after %v", d)
		}
		elapse(5 * time.Minute)
		a.wantAt(t, "id", "b")
		a.line.heal()
	})
}

// Between two beats, a flush is noticed by the beat that confirms a lookup.
func TestFlushBetweenBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 30 {
			store := new(cluster.Memory)
			nodes := start(t, store, "a", "b", "c")
			a, b, c := nodes[0], nodes[1], nodes[2]
			c.line.set(func(l *line) { l.deaf = true }) // so that it has to ask
			b.Register("id", cluster.Origin{})
			elapse(time.Duration(i) * 100 * time.Millisecond)
			store.Flush()
			// The ids are there again within the time that it takes, and until then nobody
			// says that they are not.
			for range 300 {
				for _, n := range []*testNode{a, c} {
					if got := n.at(t, "id"); got == "absent" {
						t.Fatalf("%s: absent, while b has it", n.Name())
					}
				}
				elapse(100 * time.Millisecond)
			}
			c.wantAt(t, "id", "b")
			c.wantAt(t, "no-id", "absent")
			for _, n := range nodes {
				n.stop()
			}
		}
	})
}

// A node that starts while the others announce again what was lost does not know that it
// was lost: they tell.
func TestStartDuringReassertion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		a := start(t, store, "a")[0]
		for i := range 100 {
			a.Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		elapse(time.Minute)
		store.Flush()
		elapse(cluster.BeatEvery)
		late := startNode(t, store, "late", nil, nil)
		absent := 0
		for range 40 {
			for i := range 100 {
				if late.at(t, fmt.Sprint("id", i)) == "absent" {
					absent++
				}
			}
			elapse(time.Second)
		}
		if absent > 0 {
			t.Errorf("%d lookups of ids that are held said that they are not", absent)
		}
		late.wantAt(t, "id7", "a")
		late.wantAt(t, "no-id", "absent")
	})
}

// A fresh store is whole, with a node alone in it.
func TestFreshStoreIsWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := startNode(t, new(cluster.Memory), "a", nil, nil)
		elapse(time.Second)
		a.wantAt(t, "no-id", "absent")
	})
}

func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("known", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "known", "b")
		a.line.set(func(l *line) { l.deaf = true })
		b.Register("unheard", cluster.Origin{})
		synctest.Wait()
		a.line.set(func(l *line) { l.delay = time.Second })
		a.wantAt(t, "unheard", "unknown")
		elapse(time.Second)
		a.wantAt(t, "unheard", "b") // the lookup went on
		for range 300 {
			before := time.Now()
			a.wantAt(t, "known", "b")
			if d := time.Since(before); d > 0 {
				t.Fatalf("a request to an id that is known waited for %v", d)
			}
			elapse(time.Second)
		}
		if s := a.Status(); !s.Reachable || !s.Whole {
			t.Errorf("a slow store: %+v", s)
		}
		// Without requests, nothing is refreshed: the first waits, but is served.
		elapse(2 * cluster.CacheLife)
		a.wantAt(t, "known", "b")
	})
}

// Of an id that is asked for often, the directory is asked once in a while.
func TestCacheCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", cluster.Origin{})
		elapse(time.Second)
		for _, id := range []string{"id", "no-id"} {
			before := a.line.gets.Load()
			for range 1000 {
				a.at(t, id)
				elapse(10 * time.Millisecond)
			}
			if got := a.line.gets.Load() - before; got > 11 {
				t.Errorf("%s: the directory was asked %d times in 10 s", id, got)
			}
		}
		// Many at once are one lookup.
		before := a.line.gets.Load()
		a.line.set(func(l *line) { l.delay = 100 * time.Millisecond })
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { a.at(t, "another") })
		}
		wg.Wait()
		if got := a.line.gets.Load() - before; got != 1 {
			t.Errorf("%d lookups of one id at the same time", got)
		}
	})
}

// A claim ends what was remembered as absent, event or not.
func TestClaimEndsAbsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		a.wantAt(t, "id", "absent")
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "id", "b")
		if got := a.told(&a.changed); len(got) != 1 || got[0] != "id" {
			t.Errorf("changed: %q", got)
		}
		a.line.set(func(l *line) { l.deaf = true })
		a.wantAt(t, "id2", "absent")
		b.Register("id2", cluster.Origin{})
		synctest.Wait()
		elapse(cluster.AbsentLife)
		a.wantAt(t, "id2", "b")
	})
}

// A node that does not have an id says so, and the directory is asked again.
func TestDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		h := holderOf(t, a, "id")
		a.line.set(func(l *line) { l.deaf = true })
		c.Register("id", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "id", "b")
		a.Doubt("id", h)
		a.wantAt(t, "id", "c")
		a.Doubt("id", h) // late: it is of the one before
		a.line.cutOff()
		a.wantAt(t, "id", "c")
		a.Doubt("id", holderOf(t, a, "id"))
		a.wantAt(t, "id", "unknown")
	})
}

// A directory that has lost the end of a tunnel names its node for it until that node is
// asked once.
func TestMisled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		for name, ask := range map[string]func(id string){
			"by another node": b.Misled,
			"by a viewer":     func(id string) { b.wantAt(t, id, "absent") },
		} {
			id := strings.ReplaceAll(name, " ", "-")
			b.Register(id, cluster.Origin{})
			synctest.Wait()
			old, err := store.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			b.Unregister(id)
			synctest.Wait()
			elapse(2 * cluster.AbsentLife)
			if _, err := store.Put(t.Context(), []cluster.Entry{old}); err != nil {
				t.Fatal(err)
			}
			a.wantAt(t, id, "b")
			ask(id)
			elapse(cluster.BeatEvery)
			if _, err := store.Get(t.Context(), id); !errors.Is(err, cluster.ErrAbsent) {
				t.Errorf("%s: the directory has it still: %v", name, err)
			}
			a.wantAt(t, id, "absent")
		}
		b.Register("held", cluster.Origin{})
		synctest.Wait()
		b.Misled("held")
		elapse(cluster.BeatEvery)
		a.wantAt(t, "held", "b")
	})
}

func holderOf(t *testing.T, n *testNode, id string) cluster.Holder {
	t.Helper()
	h, err := n.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// A node that cannot be reached is known still, unless the directory names another.
func TestRecheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		a.line.set(func(l *line) { l.deaf = true })
		c.Register("id", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "id", "b")
		a.Recheck("id", holderOf(t, a, "id"))
		a.wantAt(t, "id", "c")
		a.line.cutOff()
		a.Recheck("id", holderOf(t, a, "id"))
		a.wantAt(t, "id", "c")
	})
}

func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b", "c")
		a, b := nodes[0], nodes[1]
		b.Register("neighbour", cluster.Origin{})
		synctest.Wait()
		var wg sync.WaitGroup
		for i := range 4000 { // milliseconds
			for j := range 20 {
				wg.Go(func() { _, _ = a.Find(t.Context(), fmt.Sprint("no-id", i, "-", j)) })
			}
			if i%100 == 0 {
				a.wantAt(t, "neighbour", "b")
			}
			if i == 2000 {
				a.line.set(func(l *line) { l.delay = 20 * time.Millisecond })
			}
			before := a.line.ops()
			<-time.After(time.Millisecond)
			if i%1000 == 0 {
				wg.Go(func() {
					<-time.After(time.Second)
					got := a.line.ops() - before
					t.Logf("%d operations", got)
					if got > 1000 {
						t.Errorf("20,000 lookups of absent ids in a second cost %d operations", got)
					}
				})
			}
		}
		wg.Wait()
		if s := a.Sizes(); s.Absent > cluster.MaxAbsent || s.Cached > 1 || s.Flights > 0 {
			t.Errorf("after the flood: %+v", s)
		}
		if s := a.Status(); s.Limited < 70_000 {
			t.Errorf("%+v", s)
		}
	})
}

// Ids of a process that is no more, or that nobody knows, cost no more than others.
func TestFloodOfDeadIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b", "c")
		a, b := nodes[0], nodes[1]
		const n = 5000
		for i := range n {
			b.Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		synctest.Wait()
		b.line.cutOff()
		b.stop()
		elapse(time.Minute)
		a.wantAt(t, "id1", "b?")
		startNode(t, store, "b", nil, nil)
		a.wantAt(t, "id1", "absent")
		elapse(time.Second)
		for range 3 {
			before := a.line.ops()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { _, _ = a.Find(t.Context(), fmt.Sprint("id", i)) })
				if i%5 == 0 {
					elapse(time.Millisecond)
				}
			}
			if got := a.line.ops() - before; got > 1000 {
				t.Errorf("%d operations in a second", got)
			}
			wg.Wait()
			elapse(time.Second)
		}
	})
}

// What is known of ids that are asked for is not lost while there are too many lookups.
func TestFloodKeepsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "id", "b")
		elapse(2 * cluster.CacheLife)
		a.line.set(func(l *line) { l.delay = time.Second })
		for i := range 1000 {
			go func() { _, _ = a.Find(t.Context(), fmt.Sprint("no-id", i)) }()
		}
		synctest.Wait()
		a.wantAt(t, "id", "b")
		a.wantAt(t, "another", "unknown")
		elapse(10 * time.Second)
	})
}

// Who can write to the store can hide an id for a while, but not direct it.
func TestForgedEntries(t *testing.T) {
	others, err := cluster.NewKeys([]byte("another secret, of somebody else"))
	if err != nil {
		t.Fatal(err)
	}
	forge := map[string]func(e cluster.Entry, old cluster.Entry) cluster.Entry{
		"no signature": func(e, _ cluster.Entry) cluster.Entry { e.Gen, e.Sig = math.MaxUint64, ""; return e },
		"another node": func(e, _ cluster.Entry) cluster.Entry { e.Node, e.Boot = "evil", "boot"; return e },
		"another id's": func(_, o cluster.Entry) cluster.Entry { return o },
		"highest": func(e, _ cluster.Entry) cluster.Entry {
			e.Gen, e.Attempt = math.MaxUint64, math.MaxUint64
			others.SignEntry(&e)
			return e
		},
		"last attempt": func(e, _ cluster.Entry) cluster.Entry { e.Attempt = math.MaxUint64; return e },
		"lowest":       func(e, _ cluster.Entry) cluster.Entry { e.Gen, e.Sig = 0, "x"; return e },
	}
	for name, f := range forge {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := new(cluster.Memory)
				nodes := start(t, store, "a", "b", "c")
				a, b, c := nodes[0], nodes[1], nodes[2]
				b.Register("id", from("one", 3))
				c.Register("other", from("one", 4))
				synctest.Wait()
				e, _ := store.Get(t.Context(), "id")
				other, _ := store.Get(t.Context(), "other")
				forged := f(e, other)
				late := startNode(t, store, "late", nil, nil)
				elapse(time.Second)

				store.Tell(cluster.Event{Kind: cluster.EventClaimed, Entry: forged})
				synctest.Wait()
				a.wantAt(t, "id", "b")
				store.Write("id", forged)
				late.wantAt(t, "id", "absent")
				a.wantAt(t, "id", "b") // cached
				elapse(cluster.TouchEvery * 5 / 4)
				late.wantAt(t, "id", "b")
				a.wantAt(t, "id", "b")
				if got := b.told(&b.superseded); len(got) > 0 {
					t.Errorf("a forged entry ended the session")
				}
				late.wantAt(t, "other", "c")
				if got, _ := store.Get(t.Context(), "id"); got != e {
					t.Errorf("the directory has %+v, want %+v", got, e)
				}
			})
		})
	}
}

// An entry that was in force once is put back.
func TestReplayedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		a.Register("id", from("one", 1))
		synctest.Wait()
		old, _ := store.Get(t.Context(), "id")
		b.Register("id", from("one", 2))
		synctest.Wait()
		store.Write("id", old)
		store.Tell(cluster.Event{Kind: cluster.EventClaimed, Entry: old})
		elapse(time.Second)
		wantHolder(t, nodes, "id", "b") // b has heard, and put it right
		store.Write("id", old)
		c.wantAt(t, "id", "b")
		elapse(cluster.TouchEvery * 5 / 4)
		late := startNode(t, store, "late", nil, nil)
		elapse(time.Second)
		late.wantAt(t, "id", "b")
		if got := b.told(&b.superseded); len(got) > 0 {
			t.Errorf("an old entry ended the session")
		}
	})
}

// The caller has gone: the lookup goes on for the others.
func TestFindCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, new(cluster.Memory), "a", "b")[0]
		a.line.set(func(l *line) { l.delay = 100 * time.Millisecond })
		ctx, cancel := contextOf(t)
		cancel()
		if _, err := a.Find(ctx, "id"); !errors.Is(err, cluster.ErrUnknown) {
			t.Errorf("Find with a context that has ended: %v", err)
		}
		a.wantAt(t, "id", "absent")
	})
}

func TestCachedSize(t *testing.T) {
	keys := testKeys()
	m := cluster.NewMember(cluster.MemberConfig{Directory: new(cluster.Memory), Name: "a", Addr: "a:1", Keys: keys})
	n := 50_000
	if raceEnabled { // signatures take long
		n = 5_000
	}
	boot := strings.Repeat("b", 16)
	entries := make([]cluster.Entry, n)
	for i := range entries {
		e := cluster.Entry{Node: "node-b", Boot: boot, Gen: uint64(i), Instance: "one", Attempt: 1}
		e.ID = fmt.Sprintf("%08d-%s", i, strings.Repeat("x", 54)) // as long as they can be
		keys.SignEntry(&e)
		entries[i] = e
	}
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	for _, e := range entries {
		m.Heard(e)
	}
	each := (heap() - before) / uint64(n)
	t.Logf("%d bytes for each holder", each)
	if each > 300 {
		t.Errorf("%d bytes for each holder that is cached, more than 300", each)
	}
	runtime.KeepAlive(entries)
	if got := m.Status().Cached; got != n {
		t.Errorf("%d cached, want %d", got, n)
	}
}

// The store forgets everything: ids that are asked for stay known, though what is known of
// them runs out before they are announced again.
func TestFlushKeepsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		for i := range 100 {
			b.Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		elapse(cluster.CacheLife - 2*time.Second)
		store.Flush()
		for range 400 {
			for i := range 100 {
				a.wantAt(t, fmt.Sprint("id", i), "b")
			}
			elapse(100 * time.Millisecond)
		}
	})
}

// The directory loses everything while a node cannot reach it, which therefore does not
// announce its ids again. What others know of these counts, as long as they know that node.
func TestFlushKeepsKnownOfCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		a.wantAt(t, "id", "b")
		b.line.cutOff()
		store.Flush()
		for range 60 {
			elapse(5 * time.Second)
			if got := a.at(t, "id"); strings.TrimSuffix(got, "?") != "b" {
				t.Errorf("a finds it at %s", got)
			}
		}
		a.wantAt(t, "nobody", "absent")
		b.line.heal()
		elapse(cluster.Reassertion)
		b.Unregister("id")
		elapse(cluster.BeatEvery)
		a.wantAt(t, "id", "absent")
	})
}

// A fail-over puts a replica in charge that has missed where an id has moved to. What is
// known of it is newer, and counts until the nodes have announced everything again.
func TestFailOverKeepsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		c.Register("id", from("one", 1))
		synctest.Wait()
		replica := store.Snapshot()
		b.Register("id", from("one", 2))
		elapse(cluster.CacheLife - 2*time.Second)
		store.Restore(replica)
		for _, n := range nodes {
			n.line.set(func(l *line) { l.reset = true })
		}
		elapse(time.Second)
		for range 40 {
			a.wantAt(t, "id", "b")
			elapse(time.Second)
		}
	})
}
