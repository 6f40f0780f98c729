package cluster_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// wantHolder tests that id is on the node of that name, and that the others of nodes find
// it there.
func wantHolder(t *testing.T, nodes []*testNode, id, name string) {
	t.Helper()
	for _, n := range nodes {
		if n.Name() == name {
			if !n.Holds(id) {
				t.Errorf("%s does not hold %s", name, id)
			}
			continue
		}
		if n.Holds(id) {
			t.Errorf("%s holds %s, which is on %s", n.Name(), id, name)
		}
		n.wantAt(t, id, name)
	}
}

func TestRegisterCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b", "c")
		a, b, c := nodes[0], nodes[1], nodes[2]
		const n = 1000
		before := [3]int64{a.line.puts.Load(), b.line.puts.Load(), c.line.puts.Load()}
		for i := range n {
			a.Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		synctest.Wait()
		if got := a.line.puts.Load() - before[0]; got != n {
			t.Errorf("%d operations for %d registrations", got, n)
		}
		// Each moves: the new claim, and the old node's question that it is superseded.
		for i := range n {
			b.Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		synctest.Wait()
		if got := a.line.ops() + b.line.ops() - before[0] - before[1]; got > 3*n+100 {
			t.Errorf("%d operations for %d registrations and as many moves", got, n)
		}
		if got := len(a.told(&a.superseded)); got != n {
			t.Errorf("%d of %d sessions superseded", got, n)
		}
		if got := c.line.puts.Load() + c.line.gets.Load(); got != before[2] {
			t.Errorf("a node that is not concerned has made %d operations", got)
		}
		wantHolder(t, nodes, "id7", "b")
		if got := c.line.gets.Load(); got != 0 {
			t.Errorf("finding an id that was announced took %d operations", got)
		}
	})
}

func TestClaimsCollapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a := nodes[0]
		a.line.set(func(l *line) { l.delay = 100 * time.Millisecond })
		a.Register("other", cluster.Origin{}) // keeps the line busy
		synctest.Wait()
		before := a.line.ops()
		for range 50 {
			a.Register("id", cluster.Origin{})
			a.Unregister("id")
		}
		a.Register("id", cluster.Origin{})
		elapse(time.Second)
		if got := a.line.ops() - before; got > 5 { // and a beat
			t.Errorf("101 changes while one is under way cost %d operations", got)
		}
		wantHolder(t, nodes, "id", "a")
		for range 50 {
			a.Unregister("id")
			a.Register("id", cluster.Origin{})
		}
		a.Unregister("id")
		elapse(time.Second)
		nodes[1].wantAt(t, "id", "absent")
	})
}

// An id that has another session on the same node, which ends before the directory has
// heard of it: the entry of the first must not stay.
func TestUnregisterBeforeAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a := nodes[0]
		a.Register("id", cluster.Origin{})
		synctest.Wait()
		a.line.cutOff()
		a.Register("id", cluster.Origin{})
		elapse(3 * time.Second)
		a.Unregister("id")
		a.line.heal()
		elapse(5 * time.Second)
		if e, err := store.Get(t.Context(), "id"); err == nil {
			t.Errorf("the directory still has %+v", e)
		}
	})
}

func TestClocksDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		skew := func(d time.Duration) func(*testNode) {
			return func(n *testNode) { n.SetClock(func() time.Time { return time.Now().Add(d) }) }
		}
		nodes := []*testNode{
			startNode(t, store, "ahead", nil, skew(4*time.Second)),
			startNode(t, store, "behind", nil, skew(-4*time.Second)),
			startNode(t, store, "far", nil, skew(-24*time.Hour)),
		}
		elapse(2 * cluster.BeatEvery)
		for _, origin := range []func(uint64) cluster.Origin{
			func(uint64) cluster.Origin { return cluster.Origin{} },
			func(n uint64) cluster.Origin { return from("one", n) },
			func(n uint64) cluster.Origin { return from(fmt.Sprint("process", n), 1) },
		} {
			for i := range uint64(9) {
				n := nodes[i%3]
				n.Register("id", origin(i+1))
				synctest.Wait()
				wantHolder(t, nodes, "id", n.Name())
				elapse(10 * time.Millisecond)
			}
		}
	})
}

// The later attempt of a client's process wins, in whatever order they arrive.
func TestLateAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", from("one", 2))
		elapse(time.Second)
		a.Register("id", from("one", 1))
		synctest.Wait()
		wantHolder(t, nodes, "id", "b")
		if got := a.told(&a.superseded); !slices.Equal(got, []string{"id"}) {
			t.Errorf("superseded: %q", got)
		}
		if got := b.told(&b.superseded); len(got) != 0 {
			t.Errorf("the newer session was superseded")
		}
		// On one node, the node itself has decided already.
		b.Register("id", from("one", 1))
		synctest.Wait()
		wantHolder(t, nodes, "id", "b")
	})
}

// Both claim at once: the answer to a claim arrives after the event of the other's.
func TestClaimsCross(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for i := range 20 {
			nodes := start(t, new(cluster.Memory), "a", "b")
			a, b := nodes[0], nodes[1]
			a.line.set(func(l *line) { l.delay = 200 * time.Millisecond })
			b.line.set(func(l *line) { l.delay = time.Duration(i) * 25 * time.Millisecond })
			a.Register("id", from("one", 1))
			b.Register("id", from("one", 2))
			elapse(3 * time.Second)
			wantHolder(t, nodes, "id", "b")
			a.stop()
			b.stop()
		}
	})
}

func TestSuperseded(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprint("deaf=", deaf), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := start(t, new(cluster.Memory), "a", "b")
				a, b := nodes[0], nodes[1]
				a.Register("id", cluster.Origin{})
				synctest.Wait()
				a.line.set(func(l *line) { l.deaf = deaf })
				b.Register("id", cluster.Origin{})
				synctest.Wait()
				if a.Holds("id") != deaf {
					t.Fatalf("holds it: %v", !deaf)
				}
				elapse(cluster.TouchEvery * 5 / 4)
				wantHolder(t, nodes, "id", "b")
				if got := a.told(&a.superseded); !slices.Equal(got, []string{"id"}) {
					t.Errorf("superseded: %q", got)
				}
			})
		})
	}
}

// An event that is late, or sent again by somebody, ends no session.
func TestLateEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		old, _ := store.Get(t.Context(), "id")
		b.Unregister("id")
		synctest.Wait()
		a.Register("id", cluster.Origin{})
		synctest.Wait()
		store.Tell(cluster.Event{Kind: cluster.EventClaimed, Entry: old})
		synctest.Wait()
		wantHolder(t, nodes[:1], "id", "a")
		if got := a.told(&a.superseded); len(got) > 0 {
			t.Errorf("superseded: %q", got)
		}
	})
}

// The directory has the new session's entry when the old node lets go of its own.
func TestReleaseByCompare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		a.Register("id", cluster.Origin{})
		synctest.Wait()
		a.line.set(func(l *line) { l.deaf, l.delay = true, 500*time.Millisecond })
		b.Register("id", cluster.Origin{})
		a.Unregister("id")
		elapse(3 * time.Second)
		wantHolder(t, nodes[1:], "id", "b")
		nodes = append(nodes, startNode(t, a.line.store, "c", nil, nil))
		elapse(cluster.BeatEvery)
		nodes[2].wantAt(t, "id", "b")
	})
}

func TestIdleCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, new(cluster.Memory), "a", "b", "c")[0]
		const n, d = 2000, 20 * time.Minute
		for i := range n {
			a.Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		synctest.Wait()
		before := a.line.ops()
		elapse(d)
		each := float64(a.line.ops()-before) / n / d.Seconds()
		t.Logf("%.4f operations a second for each idle id", each)
		if each > 0.01 {
			t.Errorf("%.4f operations a second for each idle id, more than 0.01", each)
		}
		for i := range n {
			if !a.Holds(fmt.Sprint("id", i)) {
				t.Fatalf("id%d was lost", i)
			}
		}
	})
}

// The store forgets everything, or comes back after it was away for a while.
func TestReassert(t *testing.T) {
	for name, lose := range map[string]func(*line, *cluster.Memory){
		"flush": func(_ *line, s *cluster.Memory) { s.Flush() },
		"away":  func(l *line, _ *cluster.Memory) { l.cutOff(); elapse(time.Minute); l.heal() },
		"silent": func(l *line, _ *cluster.Memory) {
			l.set(func(l *line) { l.dead = true })
			elapse(time.Minute)
			l.heal()
		},
		"long":    func(l *line, _ *cluster.Memory) { l.cutOff(); elapse(15 * time.Minute); l.heal() },
		"restart": func(l *line, s *cluster.Memory) { l.cutOff(); s.Flush(); elapse(10 * time.Second); l.heal() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := new(cluster.Memory)
				nodes := start(t, store, "a", "b")
				a, b := nodes[0], nodes[1]
				n := 10_000
				if raceEnabled || name != "flush" && name != "away" { // signatures take long
					n = 2_000
				}
				for i := range n {
					a.Register(fmt.Sprint("id", i), cluster.Origin{})
				}
				elapse(time.Minute)
				lose(a.line, store)
				most := int64(0)
				for range 30 {
					before := a.line.ops()
					elapse(time.Second)
					most = max(most, a.line.ops()-before)
				}
				if most > 1000 {
					t.Errorf("%d operations in a second", most)
				}
				t.Logf("%d operations in a second at most", most)
				if s := a.Status(); !s.Whole || !s.Reachable || s.Pending > 0 || s.Announced != n {
					t.Errorf("after 30 s: %+v", s)
				}
				for i := range n {
					if _, err := store.Get(t.Context(), fmt.Sprint("id", i)); err != nil {
						t.Fatalf("id%d is not in the directory after 30 s", i)
					}
				}
				b.wantAt(t, "id1", "a")
				b.wantAt(t, "no-id", "absent")
				if got := a.told(&a.superseded); len(got) > 0 {
					t.Errorf("%d sessions superseded", len(got))
				}
			})
		})
	}
}

// The store is away while clients come and go.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, new(cluster.Memory), "a", "b")[0]
		a.line.cutOff()
		for i := range cluster.MaxCached + 20_000 {
			id := fmt.Sprint("id", i)
			a.Register(id, cluster.Origin{})
			a.Unregister(id)
		}
		s := a.Sizes()
		if s.Gone > cluster.MaxCached || s.Dirty > cluster.MaxCached || s.Held > 0 {
			t.Errorf("after a flood of registrations: %+v", s)
		}
		a.line.heal()
		elapse(5 * time.Second)
		if s := a.Sizes(); s.Gone > 0 || s.Dirty > 0 {
			t.Errorf("later: %+v", s)
		}
	})
}

// Registrations that never stop do not keep entries from being put again.
func TestTouchesAmidRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		a := start(t, store, "a", "b")[0]
		a.Register("id", cluster.Origin{})
		synctest.Wait()
		a.line.set(func(l *line) { l.delay = 500 * time.Millisecond })
		for i := range 4 * 15 * 60 {
			a.Register(fmt.Sprint("id", i%100), cluster.Origin{})
			elapse(250 * time.Millisecond)
		}
		if _, err := store.Get(t.Context(), "id"); err != nil {
			t.Errorf("after a quarter of an hour: %v", err)
		}
	})
}

// A part of the store does not take entries: those of the other parts are announced.
func TestStorePartlyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		a.Register("gone", cluster.Origin{})
		a.Register("moved", cluster.Origin{})
		synctest.Wait()
		a.line.set(func(l *line) { l.refuse = []string{"bad", "gone"} })
		a.Unregister("gone")
		a.Register("bad", cluster.Origin{})
		a.Register("good", cluster.Origin{})
		b.Register("moved", cluster.Origin{})
		elapse(10 * time.Second)
		b.wantAt(t, "good", "a")
		if s := a.Sizes(); s.Dirty != 2 || s.Held != 2 {
			t.Errorf("%+v", s)
		}
		if got := a.told(&a.superseded); !slices.Equal(got, []string{"moved"}) {
			t.Errorf("superseded: %q", got)
		}
		a.line.heal()
		elapse(5 * time.Second)
		wantHolder(t, nodes, "bad", "a")
		b.wantAt(t, "gone", "absent")
	})
}
