package directorytest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

func node(name, boot string) cluster.Node {
	return cluster.Node{
		Name: name, Boot: boot, Addr: "192.0.2.1:8443", Version: "v1.2.3", State: cluster.Up,
		Tunnels: 17, Beat: time.UnixMicro(1_800_000_000_123_456), Sig: "c2lnbmVk",
	}
}

// lists fails the test unless the nodes are those.
func (s *suite) lists(want ...cluster.Node) {
	s.Helper()
	got, err := s.Directory.Nodes(s.ctx)
	if err != nil {
		s.Fatalf("Nodes: %v", err)
	}
	slices.SortFunc(got, func(a, b cluster.Node) int { return cmp.Compare(a.Name, b.Name) })
	if len(got) != len(want) {
		s.Fatalf("Nodes: %d of them, want %d: %+v", len(got), len(want), got)
	}
	for i := range got {
		if !sameNode(got[i], want[i]) {
			s.Errorf("Nodes:\n got %+v\nwant %+v", got[i], want[i])
		}
	}
}

func sameNode(a, b cluster.Node) bool {
	same := a.Beat.Equal(b.Beat)
	a.Beat = b.Beat
	return same && a == b
}

func beat(s *suite) {
	a, again := node("a", "1"), node("a", "2")
	s.lists()
	s.beat(a, false)
	s.beat(a, true)
	a.Tunnels, a.Beat = 18, a.Beat.Add(3*time.Second)
	s.beat(a, true)
	s.beat(again, false)
	s.beat(again, true)
	s.beat(a, false)
	s.beat(node("b", "1"), false)
}

func nodes(s *suite) {
	var want []cluster.Node
	for i, text := range []string{"", " ", "a b", "%20", "\n", "ü", "{x}", "[::1]:8443"} {
		n := node(fmt.Sprintf("node-%d", i), "boot")
		n.Addr, n.Version, n.Sig, n.Boot, n.State = text, text, text, text, cluster.State(text)
		n.Tunnels = i
		s.beat(n, false)
		s.beat(n, true)
		want = append(want, n)
	}
	never := node("node-8", "boot")
	never.Beat, never.State = time.Time{}, cluster.Draining
	s.beat(never, false)
	odd := node("nöde {8} %41 +", "boot")
	s.beat(odd, false)
	s.lists(append(want, never, odd)...)
}

func nodeExpires(s *suite) {
	a, b := node("a", "1"), node("b", "1")
	s.beat(a, false)
	s.beat(b, false)
	if s.Advance == nil {
		if life := s.NodeLife("a"); life > cluster.NodeLife || life < time.Second {
			s.Errorf("the node lives for another %v, not %v", life, cluster.NodeLife)
		}
		return
	}
	s.Advance(cluster.NodeLife - time.Second)
	s.lists(a, b)
	s.beat(b, true)
	s.Advance(time.Second)
	s.lists(b)
	s.beat(a, false)
	s.lists(a, b)
	s.Advance(cluster.NodeLife)
	s.lists()
}

func leave(s *suite) {
	a, b := node("a", "1"), node("b", "1")
	s.beat(a, false)
	s.beat(b, false)
	a.Tunnels, a.State = 0, cluster.Draining // it has changed since
	s.leave(a)
	s.lists(b)
	s.leave(a)
	s.beat(a, false)
	s.lists(a, b)
}

func leaveOther(s *suite) {
	before, after := node("a", "1"), node("a", "11")
	s.beat(before, false)
	s.beat(after, false)
	s.leave(before)
	s.lists(after)
	s.beat(after, true)
}
