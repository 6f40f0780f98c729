package redisdir_test

import (
	"errors"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// Values as the first version wrote them. Never change these: nodes of other versions write
// and read them. TestValues has the same of what is written.
const (
	recordedEntry = "1 1800000000000000 7 node-a b00t a+b%25%2B%0A c2ln"
	recordedNode  = "1 b00t draining 192.0.2.1%3A8443 v1.2.3 12 1000000005 c2ln"

	// later is what a later version may have added, with a signature of its own.
	later = " zone-1 c2lnMg"
)

// TestVersionsOfValues: what another version has written is understood. What it has added is ignored,
// and a format that it cannot share with this one is as good as not there.
func TestVersionsOfValues(t *testing.T) {
	t.Parallel()
	entry := cluster.Entry{
		ID: "build-42", Gen: 1_800_000_000_000_000, Attempt: 7, Node: "node-a", Boot: "b00t", Instance: "a b%+\n", Sig: "c2ln",
	}
	node := cluster.Node{
		Name: "node-a", Boot: "b00t", Addr: "192.0.2.1:8443", Version: "v1.2.3", State: cluster.Draining,
		Tunnels: 12, Beat: time.Unix(1, 5), Sig: "c2ln",
	}
	for _, added := range []string{"", later, " -", " %zz"} {
		if e, ok := redisdir.ParseEntry("build-42", recordedEntry+added); !ok || e != entry {
			t.Errorf("an entry with %q: %+v, %v", added, e, ok)
		}
		if n, ok := redisdir.ParseNode("node-a", recordedNode+added); !ok || n != node {
			t.Errorf("a node with %q: %+v, %v", added, n, ok)
		}
		for _, letter := range []string{"c", "r"} {
			if ev, ok := redisdir.ParseMessage(letter + " build-42 " + recordedEntry + added); !ok || ev.Entry != entry {
				t.Errorf("%s with %q: %+v, %v", letter, added, ev, ok)
			}
		}
		for _, letter := range []string{"n", "l"} {
			if ev, ok := redisdir.ParseMessage(letter + " node-a " + recordedNode + added); !ok || ev.Node != node {
				t.Errorf("%s with %q: %+v, %v", letter, added, ev, ok)
			}
		}
	}
	for _, s := range []string{"2" + recordedEntry[1:], "2" + recordedNode[1:], "1.1" + recordedEntry[1:]} {
		if e, ok := redisdir.ParseEntry("build-42", s); ok {
			t.Errorf("%q is %+v", s, e)
		}
		if n, ok := redisdir.ParseNode("node-a", s); ok {
			t.Errorf("%q is %+v", s, n)
		}
		if ev, ok := redisdir.ParseMessage("c build-42 " + s); ok {
			t.Errorf("%q is %+v", s, ev)
		}
	}
	if ev, ok := redisdir.ParseMessage("q build-42 " + recordedEntry); ok {
		t.Errorf("an unknown message is %+v", ev)
	}
}

// TestVersionsInStore: a node works with a store in which a later version has written.
func TestVersionsInStore(t *testing.T) {
	t.Parallel()
	s := start(t, program(t, "redis-server"), keepNothing...)
	d := open(t, redisdir.Config{URL: "redis://" + s.addr})
	ctx := withTimeout(t, patience)
	key, its := "wst:t:"+anEntry.ID, redisdir.EntryValue(anEntry)+later
	put := func(e cluster.Entry) cluster.Outcome {
		t.Helper()
		out, err := d.Put(ctx, []cluster.Entry{e})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}

	s.must(t, "SET", key, its)
	if e, err := d.Get(ctx, anEntry.ID); err != nil || e != anEntry {
		t.Errorf("Get: %+v, %v", e, err)
	}
	older, newer := anEntry, anEntry
	older.Gen, newer.Gen = anEntry.Gen-1, anEntry.Gen+1
	if out := put(older); out != (cluster.Outcome{Verdict: cluster.Behind, Before: anEntry}) {
		t.Errorf("an older one: %+v", out)
	}
	if out := put(newer); out != (cluster.Outcome{Verdict: cluster.Stored, Before: anEntry}) {
		t.Errorf("a newer one: %+v", out)
	}

	// The same entry, with words that its own node does not know: it puts its own back,
	// which then lives as long as any.
	s.must(t, "SET", key, its)
	if out := put(anEntry); out != (cluster.Outcome{Verdict: cluster.Stored, Before: anEntry}) {
		t.Errorf("the same: %+v", out)
	}
	if n, _ := s.must(t, "TTL", key).AsInt64(); n < 500 {
		t.Errorf("it lives for %d s", n)
	}

	// Nobody blocks an id by words that he adds to an entry.
	s.must(t, "SET", key, its)
	if err := d.Delete(ctx, []cluster.Entry{anEntry}); err != nil {
		t.Error(err)
	}
	if e, err := d.Get(ctx, anEntry.ID); !errors.Is(err, cluster.ErrAbsent) {
		t.Errorf("after Delete: %+v, %v", e, err)
	}
	s.must(t, "SET", key, redisdir.EntryValue(anEntry)+"x"+later) // another signature
	if err := d.Delete(ctx, []cluster.Entry{anEntry}); err != nil {
		t.Error(err)
	}
	if n, _ := s.must(t, "EXISTS", key).AsInt64(); n != 1 {
		t.Error("another entry was deleted")
	}

	n := cluster.Node{Name: "a", Boot: "b", Addr: "h:1", State: cluster.Up}
	if _, err := d.Beat(ctx, n); err != nil {
		t.Fatal(err)
	}
	s.must(t, "SET", "wst:n:a", redisdir.NodeValue(n)+later)
	if list, err := d.Nodes(ctx); err != nil || len(list) != 1 || list[0] != n {
		t.Errorf("%+v, %v", list, err)
	}
	if known, err := d.Beat(ctx, n); err != nil || !known {
		t.Errorf("Beat: %v, %v", known, err)
	}
	s.must(t, "SET", "wst:n:a", redisdir.NodeValue(n)+later)
	if err := d.Leave(ctx, n); err != nil {
		t.Error(err)
	}
	if list, err := d.Nodes(ctx); err != nil || len(list) != 0 {
		t.Errorf("after Leave: %+v, %v", list, err)
	}
}
