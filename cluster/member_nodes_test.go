package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// seen returns what n thinks of the node of that name, or "".
func (n *testNode) seen(name string) cluster.NodeState {
	for _, other := range n.Status().Nodes {
		if other.Name == name {
			return other.Seen
		}
	}
	return ""
}

func TestNodeStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		want := func(state cluster.NodeState, told ...string) {
			t.Helper()
			if got := a.seen("b"); got != state {
				t.Errorf("b is %q, want %q", got, state)
			}
			if got := a.told(&a.states); !slices.Equal(got, told) {
				t.Errorf("told %q, want %q", got, told)
			}
		}
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		want(cluster.NodeUp)

		b.line.cutOff()
		elapse(cluster.NodeLife + cluster.BeatEvery)
		want(cluster.NodeSuspect, "b suspect")
		a.wantAt(t, "id", "b?")
		a.wantAt(t, "no-id", "absent") // a suspect node is in the way of its own ids alone

		b.line.heal()
		elapse(2 * cluster.BeatEvery)
		want(cluster.NodeUp, "b up")
		elapse(cluster.Reassertion)

		b.Drain()
		elapse(time.Second)
		want(cluster.NodeDraining, "b draining")
		a.wantAt(t, "id", "b") // it serves what it has

		b.stop()
		synctest.Wait()
		want("", "b gone")
		a.wantAt(t, "id", "absent")
		elapse(cluster.Suspicion + 2*cluster.BeatEvery)
		if s := a.Sizes(); s.Nodes != 1 {
			t.Errorf("after that: %+v", s)
		}
	})
}

// The goodbye's deletions are lost.
func TestGoodbyeHalfway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		e, _ := store.Get(t.Context(), "id")
		b.stop()
		synctest.Wait()
		store.Write("id", e)
		a.wantAt(t, "id", "absent")
		late := startNode(t, store, "late", nil, nil)
		elapse(time.Second)
		late.wantAt(t, "id", "unknown") // it has never heard of b
	})
}

// Killed, and started again by the same name.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", from("one", 1))
		b.Register("id2", from("two", 1))
		synctest.Wait()
		b.line.cutOff()
		b.stop()
		a.wantAt(t, "id", "b") // it cannot know yet
		b = startNode(t, store, "b", nil, func(n *testNode) {
			n.SetClock(func() time.Time { return time.Now().Add(-time.Second / 2) })
		})
		elapse(cluster.NodeLife + cluster.BeatEvery)
		a.wantAt(t, "id", "absent")
		b.wantAt(t, "id", "absent")
		b.Register("id", from("one", 2))
		synctest.Wait()
		a.wantAt(t, "id", "b")
		if got := a.seen("b"); got != cluster.NodeUp {
			t.Errorf("b is %q", got)
		}
	})
}

// A process whose clock was put back by an hour while it was restarted.
func TestRestartClockBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", from("one", 1))
		synctest.Wait()
		b.line.cutOff()
		b.stop()
		b = startNode(t, store, "b", nil, func(n *testNode) {
			n.SetClock(func() time.Time { return time.Now().Add(-time.Hour) })
		})
		b.Register("id", from("one", 2))
		for range 100 {
			if got := a.at(t, "id"); got == "absent" {
				t.Fatal("absent, while b has it")
			}
			elapse((cluster.NodeLife + 2*cluster.BeatEvery) / 100)
		}
		if !b.Holds("id") {
			t.Error("b's session was superseded by one of the process before")
		}
		a.wantAt(t, "id", "b")
	})
}

func TestForgedNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		b.Register("id", cluster.Origin{})
		synctest.Wait()
		list, err := store.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(n cluster.Node) bool { return n.Name == "b" })
		old := list[i]
		forged := old
		forged.Addr = "169.254.169.254:80"
		forged.Beat = time.Now().Add(time.Hour)
		addr := func() {
			t.Helper()
			h, err := a.Find(t.Context(), "id")
			if err != nil || h.Node.Addr != "b.test:443" {
				t.Errorf("%+v, %v", h, err)
			}
		}
		for range 20 {
			store.WriteNode(forged)
			store.Tell(cluster.Event{Kind: cluster.EventNodeChanged, Node: forged})
			store.Tell(cluster.Event{Kind: cluster.EventNodeLeft, Node: forged})
			elapse(time.Second)
			addr()
		}
		forged.Name = "c"
		store.WriteNode(forged)
		elapse(2 * cluster.BeatEvery)
		if got := a.seen("c"); got != "" {
			t.Errorf("a node that none has signed is %q", got)
		}

		// A record of the process before, put back again and again.
		b.line.cutOff()
		b.stop()
		b = startNode(t, store, "b", func(c *cluster.MemberConfig) { c.Addr = "b.test:444" }, nil)
		b.Register("id", cluster.Origin{})
		elapse(cluster.BeatEvery)
		for range 20 {
			store.WriteNode(old)
			store.Tell(cluster.Event{Kind: cluster.EventNodeChanged, Node: old})
			store.Tell(cluster.Event{Kind: cluster.EventNodeLeft, Node: old})
			elapse(time.Second)
			h, err := a.Find(t.Context(), "id")
			if err == nil && h.Node.Addr != "b.test:444" {
				t.Errorf("%+v, %v", h, err)
			} else if errors.Is(err, cluster.ErrAbsent) {
				t.Errorf("absent, while b has it")
			}
		}
	})
}

// A list that was read before a goodbye arrives after it.
func TestGoodbyeAndList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		a.line.set(func(l *line) { l.delay = 1500 * time.Millisecond })
		elapse(4400 * time.Millisecond)
		b.stop()
		elapse(30 * time.Second)
		if got := a.seen("b"); got != "" {
			t.Errorf("b has said goodbye, and is %q", got)
		}
		for _, s := range a.told(&a.states) {
			if s == "b suspect" {
				t.Error(s)
			}
		}
	})
}

func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, new(cluster.Memory), "a", "b")[0]
		a.line.cutOff()
		elapse(time.Minute)
		a.line.heal()
		elapse(time.Minute)
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.troubles) != 2 || !errors.Is(a.troubles[0], errCut) || a.troubles[1] != nil {
			t.Errorf("told %v", a.troubles)
		}
	})
}

// One part of the directory fails all the time, while the others work: that is told once.
func TestTroubleOfOnePart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, new(cluster.Memory), "a", "b")[0]
		a.line.set(func(l *line) { l.refuse = []string{"bad"} })
		a.Register("bad", cluster.Origin{})
		elapse(time.Minute)
		if s := a.Status(); s.Reachable || !s.Whole {
			t.Errorf("%+v", s)
		}
		a.wantAt(t, "no-id", "absent")
		a.line.heal()
		elapse(5 * time.Second)
		a.line.set(func(l *line) { l.unwatched, l.reset = true, true })
		elapse(time.Minute)
		a.wantAt(t, "no-id", "unknown")
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.troubles) != 3 || a.troubles[0] == nil || a.troubles[1] != nil || a.troubles[2] == nil {
			t.Errorf("told %v", a.troubles)
		}
	})
}

// The store is there, but its answers are lost.
func TestAnswersLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := start(t, new(cluster.Memory), "a", "b")
		a, b := nodes[0], nodes[1]
		a.line.set(func(l *line) { l.late = true })
		a.Register("id", from("one", 1))
		elapse(10 * time.Second)
		a.wantAt(t, "no-id", "unknown")
		b.wantAt(t, "id", "a")
		a.Unregister("id")
		b.Register("id", from("one", 2))
		elapse(time.Second)
		a.line.heal()
		elapse(40 * time.Second)
		wantHolder(t, nodes, "id", "b")
	})
}

// A Watch that falls behind begins again.
func TestManyEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		for i := range 5000 {
			nodes[1].Register(fmt.Sprint("id", i), cluster.Origin{})
		}
		elapse(40 * time.Second)
		if s := nodes[0].Status(); !s.Whole || s.Forged > 0 {
			t.Errorf("%+v", s)
		}
		for i := range 5000 {
			nodes[0].wantAt(t, fmt.Sprint("id", i), "b")
			if i%100 == 0 {
				elapse(time.Second)
			}
		}
	})
}

// During a rotation, nodes have both secrets, and sign with one or the other.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, later := []byte("the secret until now, long"), []byte("the secret from now on, long")
		with := func(secrets ...[]byte) func(*cluster.MemberConfig) {
			k, err := cluster.NewKeys(secrets...)
			if err != nil {
				t.Fatal(err)
			}
			return func(c *cluster.MemberConfig) { c.Keys = k }
		}
		store := new(cluster.Memory)
		a := startNode(t, store, "a", with(old, later), nil)
		b := startNode(t, store, "b", with(later, old), nil)
		c := startNode(t, store, "c", with(later), nil)
		elapse(2 * cluster.BeatEvery)
		nodes := []*testNode{a, b}
		a.Register("id", from("one", 1))
		synctest.Wait()
		wantHolder(t, nodes, "id", "a")
		c.wantAt(t, "id", "absent")
		b.Register("id", from("one", 2))
		synctest.Wait()
		wantHolder(t, []*testNode{a, b, c}, "id", "b")
		if got := c.Status().Forged; got == 0 {
			t.Error("what is signed by a secret that the node does not have is not counted")
		}
		if got := a.Status().Forged + b.Status().Forged; got != 0 {
			t.Errorf("%d forged for nodes with both secrets", got)
		}
	})
}

// The store forgets everything while its answers are lost: the one to the beat that has
// found the record missing is among them.
func TestFlushWhileAnswersLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		nodes := start(t, store, "a", "b")
		a, b := nodes[0], nodes[1]
		a.Register("id", cluster.Origin{})
		synctest.Wait()
		a.line.set(func(l *line) { l.late = true })
		store.Flush()
		elapse(10 * time.Second)
		a.line.heal()
		elapse(30 * time.Second)
		if _, err := store.Get(t.Context(), "id"); err != nil {
			t.Errorf("30 s later: %v", err)
		}
		b.wantAt(t, "id", "a")
	})
}

// A node that comes while another one reads the list of nodes is not missing from it.
func TestNodeComesMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := new(cluster.Memory)
		a := startNode(t, store, "a", nil, nil)
		elapse(cluster.BeatEvery)
		a.line.set(func(l *line) { l.delay = time.Second })
		for i := range 20 {
			startNode(t, store, fmt.Sprint("b", i), nil, nil)
			elapse(250 * time.Millisecond)
		}
		for _, s := range a.told(&a.states) {
			if strings.Contains(s, "suspect") {
				t.Error(s)
			}
		}
	})
}
