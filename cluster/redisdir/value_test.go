package redisdir_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// TestValues: the format, which nodes of other versions read.
func TestValues(t *testing.T) {
	t.Parallel()
	e := cluster.Entry{
		ID: "build-42", Gen: 1_800_000_000_000_000, Attempt: 7, Node: "node-a", Boot: "b00t",
		Instance: "a b%+\n", Sig: "c2ln",
	}
	if got, want := redisdir.EntryValue(e), "1 1800000000000000 7 node-a b00t a+b%25%2B%0A c2ln"; got != want {
		t.Errorf("entry:\n got %q\nwant %q", got, want)
	}
	n := cluster.Node{
		Name: "node-a", Boot: "b00t", Addr: "192.0.2.1:8443", Version: "v1.2.3", State: cluster.Draining,
		Tunnels: 12, Beat: time.Unix(1, 5), Sig: "c2ln",
	}
	if got, want := redisdir.NodeValue(n), "1 b00t draining 192.0.2.1%3A8443 v1.2.3 12 1000000005 c2ln"; got != want {
		t.Errorf("node:\n got %q\nwant %q", got, want)
	}
}

// odd has values that count as absent.
var odd = []string{
	" ", "1", "garbage", "2 1 1 n b i s", "1 1 1 n b i", "1 1 1 n b i s ", " 1 1 1 n b i s", "1  1 1 n b i s",
	"1 -1 1 n b i s", "1 01 1 n b i s", "1 +1 1 n b i s", "1 1e3 1 n b i s", "1 18446744073709551616 1 n b i s",
	"1 1 x n b i s", "1 1 1 % b i s", "1 1 1 %6e b i s", "1 1 1 n b i\x00 s", "1 1 1 n b i s\n",
	"1 1 1 n b " + strings.Repeat("i", 3000) + " s",
}

func TestOddValues(t *testing.T) {
	t.Parallel()
	for _, v := range odd {
		if e, ok := redisdir.ParseEntry("a", v); ok {
			t.Errorf("%q is %+v", v, e)
		}
		if n, ok := redisdir.ParseNode("a", v); ok {
			t.Errorf("%q is %+v", v, n)
		}
		if e, ok := redisdir.ParseMessage("c a " + v); ok {
			t.Errorf("%q is %+v", v, e)
		}
	}
	for _, m := range []string{"", "c", "c ", "x a 1 1 1 n b i s", "c  1 1 1 n b i s", "c %zz 1 1 1 n b i s", "cc a 1 1 1 n b i s",
		"c " + strings.Repeat("a", 1000) + " 1 1 1 n b i s"} {
		if e, ok := redisdir.ParseMessage(m); ok {
			t.Errorf("%q is %+v", m, e)
		}
	}
}

// written reports whether value is own, with or without words at its end.
func written(own, value string) bool { return value == own || strings.HasPrefix(value, own+" ") }

// FuzzEntry: what can be parsed is exactly what would be written, but for words at its end.
func FuzzEntry(f *testing.F) {
	f.Add("a", redisdir.EntryValue(cluster.Entry{ID: "a", Gen: math.MaxUint64, Attempt: 1, Node: "n", Boot: "b", Instance: " ", Sig: "s"}))
	for _, v := range odd {
		f.Add("a", v)
	}
	f.Fuzz(func(t *testing.T, id, value string) {
		e, ok := redisdir.ParseEntry(id, value)
		if ok && (e.ID != id || !written(redisdir.EntryValue(e), value)) {
			t.Errorf("%q: %+v", value, e)
		}
		ev, heard := redisdir.ParseMessage("c a " + value)
		if id == "a" && (heard != ok || ev.Entry != e) {
			t.Errorf("message %q: %+v", value, ev)
		}
	})
}

func FuzzNode(f *testing.F) {
	f.Add("a", redisdir.NodeValue(cluster.Node{Name: "a", Boot: "b", Addr: "[::1]:1", State: cluster.Up, Tunnels: -1, Beat: time.Unix(0, -1)}))
	f.Add("a", redisdir.NodeValue(cluster.Node{}))
	f.Fuzz(func(t *testing.T, name, value string) {
		n, ok := redisdir.ParseNode(name, value)
		if ok && (n.Name != name || !written(redisdir.NodeValue(n), value)) {
			t.Errorf("%q: %+v", value, n)
		}
	})
}
