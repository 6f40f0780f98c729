package directorytest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// A watcher is a Watch that runs.
type watcher struct {
	*suite
	events chan cluster.Event
	done   chan error
	cancel context.CancelFunc

	// past has events that may come late: a store of several servers may tell of
	// what was done just before.
	past []cluster.Event
}

// watch watches d, and returns when the first event is there.
func (s *suite) watch(d cluster.Directory) *watcher {
	s.Helper()
	ctx, cancel := context.WithCancel(s.ctx)
	w := &watcher{suite: s, events: make(chan cluster.Event, 1<<14), done: make(chan error, 1), cancel: cancel}
	go func() { w.done <- d.Watch(ctx, func(e cluster.Event) { w.events <- e }) }()
	s.Cleanup(func() {
		cancel()
		_ = w.wait()
	})
	if e := w.next(); e != (cluster.Event{Kind: cluster.EventResync}) {
		s.Fatalf("the first event is %+v", e)
	}
	return w
}

func (w *watcher) next() cluster.Event {
	w.Helper()
	select {
	case e := <-w.events:
		return e
	case err := <-w.done:
		w.done <- err
		w.Fatalf("Watch has ended: %v", err)
	case <-w.ctx.Done():
		w.Fatal("no event comes")
	}
	panic("not reached")
}

// expect fails the test unless those are the next events.
func (w *watcher) expect(want ...cluster.Event) {
	w.Helper()
	for _, e := range want {
		got := w.next()
		for slices.ContainsFunc(w.past, func(e cluster.Event) bool { return sameEvent(got, e) }) {
			got = w.next()
		}
		if !sameEvent(got, e) {
			w.Fatalf("event:\n got %+v\nwant %+v", got, e)
		}
	}
}

func sameEvent(a, b cluster.Event) bool {
	return a.Kind == b.Kind && a.Entry == b.Entry && sameNode(a.Node, b.Node)
}

// wait returns what Watch has returned.
func (w *watcher) wait() error {
	select {
	case err := <-w.done:
		w.done <- err
		return err
	case <-time.After(limit):
		w.Error("Watch does not return")
		return nil
	}
}

func claimed(e cluster.Entry) cluster.Event {
	return cluster.Event{Kind: cluster.EventClaimed, Entry: e}
}

func released(e cluster.Entry) cluster.Event {
	return cluster.Event{Kind: cluster.EventReleased, Entry: e}
}

func changed(n cluster.Node) cluster.Event {
	return cluster.Event{Kind: cluster.EventNodeChanged, Node: n}
}

func resync(s *suite) {
	s.put(entry("before", 1), cluster.Stored, cluster.Entry{})
	w := s.watch(s.Directory)
	w.past = []cluster.Event{claimed(entry("before", 1))}
	s.put(entry("after", 1), cluster.Stored, cluster.Entry{})
	w.expect(claimed(entry("after", 1)))
}

func entryEvents(s *suite) {
	w := s.watch(s.Other)
	first, second := entry("a", 5), other("a", 6)
	s.put(first, cluster.Stored, cluster.Entry{})
	s.put(second, cluster.Stored, first)
	s.delete(second)
	w.expect(claimed(first), claimed(second), released(second))
	odd := entry("b", 1)
	odd.Instance, odd.Sig = " %+\n\x00\xff", ""
	s.put(odd, cluster.Stored, cluster.Entry{})
	w.expect(claimed(odd))
	var want []cluster.Event
	for i := range 500 {
		e := entry("c", uint64(i))
		s.outcome(e, cluster.Stored)
		want = append(want, claimed(e))
	}
	w.expect(want...)
}

// outcome puts an entry, whatever was there before.
func (s *suite) outcome(e cluster.Entry, want cluster.Verdict) {
	s.Helper()
	if out, err := s.Directory.Put(s.ctx, []cluster.Entry{e}); err != nil || out[0].Verdict != want {
		s.Fatalf("Put: %+v, %v", out, err)
	}
}

func nodeEvents(s *suite) {
	w := s.watch(s.Other)
	a := node("a", "1")
	draining := a
	draining.State, draining.Tunnels = cluster.Draining, 3
	moved := draining
	moved.Addr = "192.0.2.2:1"
	again := node("a", "2")
	s.beat(a, false)
	s.beat(draining, true)
	s.beat(moved, true)
	s.beat(again, false)
	s.leave(again)
	w.expect(changed(a), changed(draining), changed(moved), changed(again),
		cluster.Event{Kind: cluster.EventNodeLeft, Node: again})
}

func noEvents(s *suite) {
	e := with(entry("a", 5), func(e *cluster.Entry) { e.Attempt = 2 })
	a := node("a", "1")
	s.put(e, cluster.Stored, cluster.Entry{})
	s.beat(a, false)
	w := s.watch(s.Other)
	w.past = []cluster.Event{claimed(e), changed(a)}
	s.put(e, cluster.Kept, e)
	s.put(other("a", 4), cluster.Behind, e)
	s.put(entry("a", 6), cluster.Superseded, e)
	s.delete(other("a", 5))
	s.delete(entry("b", 5))
	a.Tunnels, a.Beat = 99, a.Beat.Add(time.Second)
	s.beat(a, true)
	s.leave(node("a", "2"))
	s.leave(node("b", "1"))
	last := entry("last", 1)
	s.put(last, cluster.Stored, cluster.Entry{})
	w.expect(claimed(last))
}

// nothingMissed: what a watcher reads after the resync, and the events after it,
// make up the whole.
func nothingMissed(s *suite) {
	const n = 300
	halfway := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range n {
			if i == n/3 {
				close(halfway)
			}
			if _, err := s.Other.Put(s.ctx, []cluster.Entry{entry("a", uint64(i+1))}); err != nil {
				s.Errorf("Put: %v", err)
				return
			}
		}
	})
	defer writer.Wait()
	<-halfway
	w := s.watch(s.Directory)
	e, err := s.Directory.Get(s.ctx, "a")
	if err != nil {
		s.Fatal(err)
	}
	for seen := e.Gen; seen < n; {
		switch gen := w.next().Entry.Gen; {
		case gen > seen+1:
			s.Fatalf("after %d comes %d", seen, gen)
		case gen == seen+1:
			seen = gen
		}
	}
}

func watchers(s *suite) {
	a, b, c := s.watch(s.Directory), s.watch(s.Directory), s.watch(s.Other)
	e := entry("a", 1)
	s.put(e, cluster.Stored, cluster.Entry{})
	a.expect(claimed(e))
	b.cancel()
	_ = b.wait()
	s.delete(e)
	a.expect(released(e))
	c.expect(claimed(e), released(e))
}

func watchEnds(s *suite) {
	w := s.watch(s.Directory)
	w.cancel()
	if err := w.wait(); !errors.Is(err, context.Canceled) {
		s.Errorf("Watch: %v", err)
	}
	s.put(entry("a", 1), cluster.Stored, cluster.Entry{})
}

func watchBreaks(s *suite) {
	if s.Break == nil {
		s.Skip("there is no connection")
	}
	w := s.watch(s.Directory)
	s.Break()
	if err := w.wait(); err == nil || s.ctx.Err() != nil {
		s.Errorf("Watch: %v", err)
	}
	again := s.watch(s.Directory)
	e := entry("a", 1)
	for {
		// The other connections may have broken, too.
		if _, err := s.Directory.Put(s.ctx, []cluster.Entry{e}); err == nil {
			break
		} else if s.ctx.Err() != nil {
			s.Fatal(err)
		}
	}
	again.expect(claimed(e))
}

func slowWatcher(s *suite) {
	const n = 1500
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	listen := make(chan struct{})
	ready := make(chan struct{})
	done := make(chan error, 1)
	seen := 0
	go func() {
		done <- s.Directory.Watch(ctx, func(e cluster.Event) {
			if e.Kind == cluster.EventResync {
				close(ready)
				<-listen
				return
			}
			if seen++; seen == n {
				cancel()
			}
		})
	}()
	<-ready
	entries := make([]cluster.Entry, n)
	for i := range entries {
		entries[i] = entry(fmt.Sprintf("tunnel-%d", i), 1)
	}
	_, err := s.Other.Put(s.ctx, entries)
	close(listen)
	if err != nil {
		s.Fatal(err)
	}
	if err := <-done; err == nil || seen < n && errors.Is(err, context.Canceled) {
		s.Errorf("Watch has heard of %d changes of %d, and returned %v", seen, n, err)
	}
}

func ended(s *suite) {
	canceled, cancel := context.WithCancel(s.ctx)
	cancel()
	late, cancel := context.WithTimeout(s.ctx, -1)
	defer cancel()
	d := s.Directory
	for ctx, want := range map[context.Context]error{canceled: context.Canceled, late: context.DeadlineExceeded} {
		for name, call := range map[string]func() error{
			"Put":    func() error { _, err := d.Put(ctx, []cluster.Entry{entry("a", 1)}); return err },
			"Delete": func() error { return d.Delete(ctx, []cluster.Entry{entry("a", 1)}) },
			"Get":    func() error { _, err := d.Get(ctx, "a"); return err },
			"Beat":   func() error { _, err := d.Beat(ctx, node("a", "1")); return err },
			"Leave":  func() error { return d.Leave(ctx, node("a", "1")) },
			"Nodes":  func() error { _, err := d.Nodes(ctx); return err },
			"Watch":  func() error { return d.Watch(ctx, func(cluster.Event) {}) },
		} {
			if err := call(); !errors.Is(err, want) {
				s.Errorf("%s: error %v, want %v", name, err, want)
			}
		}
	}
	s.hasNone("a")
	s.lists()
}

// closed: what a closed directory does is its own affair, but it returns.
func closed(s *suite) {
	w := s.watch(s.Directory)
	if err := s.Directory.Close(); err != nil {
		s.Errorf("Close: %v", err)
	}
	if err := s.Directory.Close(); err != nil {
		s.Errorf("Close again: %v", err)
	}
	w.cancel()
	_ = w.wait()
	_, _ = s.Directory.Get(s.ctx, "a")
	_, _ = s.Directory.Put(s.ctx, []cluster.Entry{entry("a", 1)})
}
