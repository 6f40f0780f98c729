package redisdir_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// TestHostileWriter: whoever writes to the store can neither block an id or a node
// with it, nor make a node hold what he has written.
func TestHostileWriter(t *testing.T) {
	t.Parallel()
	s := start(t, program(t, "redis-server"), keepNothing...)
	d := open(t, redisdir.Config{URL: "redis://" + s.addr})
	ctx := withTimeout(t, patience)
	node := cluster.Node{Name: "a", Boot: "b"}
	garbage := func(key string) [][]string {
		list := [][]string{
			{"RPUSH", key, "x"},
			{"HSET", key, "x", "y"},
			{"SADD", key, "x"},
			{"ZADD", key, "1", "x"},
			{"ZADD", key, "+inf", strings.Repeat("x", 10_000)},
			{"ZADD", key, "+inf", "%zz"},
			{"XADD", key, "*", "x", "y"},
			{"SETBIT", key, "100000000", "1"},
			{"SET", key, ""},
		}
		for _, v := range odd {
			list = append(list, []string{"SET", key, v})
		}
		return list
	}
	for _, command := range garbage("wst:t:a") {
		s.must(t, command...)
		if e, err := d.Get(ctx, "a"); !errors.Is(err, cluster.ErrAbsent) {
			t.Errorf("after %.80q: %+v, %v", command, e, err)
		}
		if err := d.Delete(ctx, []cluster.Entry{anEntry}); err != nil {
			t.Errorf("after %.80q: Delete: %v", command, err)
		}
		out, err := d.Put(ctx, []cluster.Entry{anEntry})
		if err != nil || out[0] != (cluster.Outcome{Verdict: cluster.Stored}) {
			t.Errorf("after %.80q: %+v, %v", command, out, err)
		}
		s.must(t, "DEL", "wst:t:a")
	}
	for _, key := range []string{"wst:n:a", "wst:nodes"} {
		for _, command := range garbage(key) {
			s.must(t, "DEL", key)
			s.must(t, command...)
			_, err := d.Nodes(ctx)
			if err != nil {
				t.Errorf("after %.80q: Nodes: %v", command, err)
			}
			if err := d.Leave(ctx, node); err != nil {
				t.Errorf("after %.80q: Leave: %v", command, err)
			}
			known, err := d.Beat(ctx, node)
			if err != nil || known && key == "wst:n:a" {
				t.Errorf("after %.80q: Beat: %v, %v", command, known, err)
			}
			nodes, err := d.Nodes(ctx)
			if err != nil || len(nodes) != 1 {
				t.Errorf("after %.80q: %d nodes, %v", command, len(nodes), err)
			}
		}
	}
	// More names than there can be nodes: those that beat stay in the list.
	for chunk := range 20 {
		command := []string{"ZADD", "wst:nodes"}
		for i := range 1000 {
			command = append(command, "1", fmt.Sprintf("%d-%d", chunk, i))
		}
		s.must(t, command...)
	}
	if _, err := d.Beat(ctx, node); err != nil {
		t.Error(err)
	}
	if nodes, err := d.Nodes(ctx); err != nil || len(nodes) != 1 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
	if n, _ := s.must(t, "ZCARD", "wst:nodes").AsInt64(); n > 1024 {
		t.Errorf("the list has %d names", n)
	}
}

// TestHostileMessages: messages that are none are not heard, and one of many
// megabytes ends the Watch before it is held.
func TestHostileMessages(t *testing.T) { // alone, because it measures the process
	s := start(t, program(t, "redis-server"), keepNothing...)
	d := open(t, redisdir.Config{URL: "redis://" + s.addr})
	events := make(chan cluster.Event, 10)
	watched := make(chan error, 1)
	go func() { watched <- d.Watch(withTimeout(t, patience), func(e cluster.Event) { events <- e }) }()
	<-events
	for _, m := range append(odd, "", "c", "c a", "p", "c a 1 1 1 n b i", strings.Repeat("c ", 20_000)) {
		s.must(t, "PUBLISH", "wst:ev", m)
	}
	if _, err := d.Put(t.Context(), []cluster.Entry{anEntry}); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Entry != anEntry {
		t.Errorf("heard %+v", e)
	}
	s.must(t, "PUBLISH", "wst:ev", strings.Repeat("x", 50_000))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.must(t, "EVAL", "return redis.call('PUBLISH', 'wst:ev', string.rep('x', 20000000))", "0")
	err := <-watched
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "more than a node can have asked for") {
		t.Errorf("Watch: %v", err)
	}
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 10<<20 {
		t.Errorf("%d MiB were allocated", grown>>20)
	}
}

// TestStoreFull: what a store refuses is an error, and does not keep others from
// being put.
func TestStoreFull(t *testing.T) {
	t.Parallel()
	s := start(t, program(t, "redis-server"), keepNothing...)
	d := open(t, redisdir.Config{URL: "redis://" + s.addr})
	ctx := withTimeout(t, patience)
	if _, err := d.Put(ctx, []cluster.Entry{anEntry}); err != nil {
		t.Fatal(err)
	}
	long := cluster.Entry{ID: "long", Instance: strings.Repeat("x", 4000)}
	unnamed := cluster.Entry{Gen: 1}
	next := anEntry
	next.ID = "next"
	out, err := d.Put(ctx, []cluster.Entry{long, unnamed, next})
	if err == nil || !strings.Contains(err.Error(), `"long" has 40`) {
		t.Errorf("Put: %v", err)
	}
	if out[0].Verdict != 0 || out[1].Verdict != 0 || out[2].Verdict != cluster.Stored {
		t.Errorf("Put: %+v", out)
	}
	s.must(t, "CONFIG", "SET", "maxmemory", "1")
	if out, err := d.Put(ctx, []cluster.Entry{{ID: "b", Gen: 1}}); err == nil || !strings.Contains(err.Error(), "OOM") || out[0].Verdict != 0 {
		t.Errorf("Put: %+v, %v", out, err)
	}
	if err := d.Ping(ctx); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Ping: %v", err)
	}
	if e, err := d.Get(ctx, "a"); err != nil || e != anEntry {
		t.Errorf("Get: %+v, %v", e, err)
	}
	s.must(t, "CONFIG", "SET", "maxmemory", "0")
	if out, err := d.Put(ctx, []cluster.Entry{{ID: "b", Gen: 1}}); err != nil || out[0].Verdict != cluster.Stored {
		t.Errorf("Put: %+v, %v", out, err)
	}
}

// TestFlush: a store that has forgotten everything knows no node.
func TestFlush(t *testing.T) {
	t.Parallel()
	s := start(t, program(t, "redis-server"), keepNothing...)
	d := open(t, redisdir.Config{URL: "redis://" + s.addr})
	n := cluster.Node{Name: "a", Boot: "b"}
	for _, command := range []string{"FLUSHALL", "FLUSHDB", "SCRIPT FLUSH"} {
		if _, err := d.Beat(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		s.must(t, strings.Fields(command)...)
		known, err := d.Beat(t.Context(), n)
		if err != nil || known != (command == "SCRIPT FLUSH") {
			t.Errorf("after %s: known %v, %v", command, known, err)
		}
	}
}

// BenchmarkPut measures refreshes, as a node sends them: in batches, of what is
// there.
func BenchmarkPut(b *testing.B) {
	s := start(b, program(b, "redis-server"), keepNothing...)
	d, err := redisdir.New(redisdir.Config{URL: "redis://" + s.addr})
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	for _, n := range []int{1, 256, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			entries := make([]cluster.Entry, n)
			for i := range entries {
				entries[i] = anEntry
				entries[i].ID = fmt.Sprintf("tunnel-%d", i)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Put(context.Background(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed()/time.Microsecond)/float64(b.N*n), "µs/entry")
		})
	}
}
