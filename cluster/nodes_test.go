package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// A line is one node's way to the store, with the faults that it has.
type line struct {
	store *cluster.Memory

	puts, deletes, gets, beats, lists atomic.Int64

	mu        sync.Mutex
	cut       bool          // nothing gets through, which shows at once
	dead      bool          // nothing gets through, and nothing says so
	deaf      bool          // events are lost
	late      bool          // answers are lost, but what they answer has happened
	reset     bool          // connections end once
	unwatched bool          // Watch fails
	refuse    []string      // ids whose entries are not taken
	delay     time.Duration // of each answer; half of it before the store has the question
	jitter    *rand.Rand    // of delays, if not nil
	ended     chan struct{} // closed when a Watch ends

	stored func(cluster.Entry) // if not nil, is called when the store has taken an entry that it did not have
}

var errCut = errors.New("the store is away")

func newLine(store *cluster.Memory) *line { return &line{store: store, ended: make(chan struct{})} }

// set changes the faults. A line that was cut or dead ends its Watch: so the node learns
// that it may have missed events.
func (l *line) set(f func(*line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.cut || l.dead
	f(l)
	if l.cut || l.reset || was && !l.dead {
		l.reset = false
		close(l.ended)
		l.ended = make(chan struct{})
	}
}

func (l *line) cutOff() { l.set(func(l *line) { l.cut = true }) }
func (l *line) heal() {
	l.set(func(l *line) {
		l.cut, l.dead, l.deaf, l.late, l.unwatched, l.delay, l.refuse = false, false, false, false, false, 0, nil
	})
}

// ops is how many operations there have been, as Redis counts them.
func (l *line) ops() int64 {
	return l.puts.Load() + l.deletes.Load() + l.gets.Load() + 2*l.beats.Load() + l.lists.Load()
}

// through is an operation on its way to the store and back.
func (l *line) through(ctx context.Context, f func() error) error {
	l.mu.Lock()
	cut, dead, late, delay := l.cut, l.dead, l.late, l.delay
	if l.jitter != nil {
		delay += time.Duration(1000+l.jitter.IntN(2_000_000)) * time.Nanosecond
	}
	l.mu.Unlock()
	if cut {
		return errCut
	}
	if dead {
		<-ctx.Done()
		return ctx.Err()
	}
	if err := pass(ctx, delay/2); err != nil {
		return err
	}
	err := f()
	if late {
		<-ctx.Done()
		return ctx.Err()
	}
	return errors.Join(err, pass(ctx, delay-delay/2))
}

func pass(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// taken returns those of entries that are not refused.
func (l *line) taken(entries []cluster.Entry) []cluster.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(entries), func(e cluster.Entry) bool { return slices.Contains(l.refuse, e.ID) })
}

func (l *line) Put(ctx context.Context, entries []cluster.Entry) (out []cluster.Outcome, err error) {
	l.puts.Add(int64(len(entries)))
	err = l.through(ctx, func() (err error) {
		taken := l.taken(entries)
		out, err = l.store.Put(ctx, taken)
		l.mu.Lock()
		stored := l.stored
		l.mu.Unlock()
		for i, o := range out {
			if o.Verdict == cluster.Stored && stored != nil {
				stored(taken[i])
			}
		}
		return err
	})
	if taken := l.taken(entries); len(taken) < len(entries) && err == nil {
		all := make([]cluster.Outcome, len(entries))
		for i, e := range entries {
			if j := slices.Index(taken, e); j >= 0 {
				all[i] = out[j]
			}
		}
		return all, errCut
	}
	return out, err
}

func (l *line) Delete(ctx context.Context, entries []cluster.Entry) error {
	l.deletes.Add(int64(len(entries)))
	taken := l.taken(entries)
	err := l.through(ctx, func() error { return l.store.Delete(ctx, taken) })
	if len(taken) < len(entries) && err == nil {
		err = errCut
	}
	return err
}

func (l *line) Get(ctx context.Context, id string) (e cluster.Entry, err error) {
	l.gets.Add(1)
	err = l.through(ctx, func() (err error) { e, err = l.store.Get(ctx, id); return err })
	return e, err
}

func (l *line) Beat(ctx context.Context, n cluster.Node) (known bool, err error) {
	l.beats.Add(1)
	err = l.through(ctx, func() (err error) { known, err = l.store.Beat(ctx, n); return err })
	return known, err
}

func (l *line) Leave(ctx context.Context, n cluster.Node) error {
	return l.through(ctx, func() error { return l.store.Leave(ctx, n) })
}

func (l *line) Nodes(ctx context.Context) (list []cluster.Node, err error) {
	err = l.through(ctx, func() (err error) { list, err = l.store.Nodes(ctx); return err })
	l.lists.Add(1 + int64(len(list)))
	return list, err
}

func (l *line) Watch(ctx context.Context, f func(cluster.Event)) error {
	l.mu.Lock()
	ended, cut, dead := l.ended, l.cut || l.unwatched, l.dead
	l.mu.Unlock()
	if cut {
		return errCut
	}
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-ended:
			cancel(errCut)
		case <-watching.Done():
		}
	}()
	if dead {
		<-watching.Done()
		return context.Cause(watching)
	}
	_ = l.store.Watch(watching, func(e cluster.Event) {
		l.mu.Lock()
		lost := l.deaf || l.dead || l.cut
		l.mu.Unlock()
		if !lost || e.Kind == cluster.EventResync {
			f(e)
		}
	})
	return context.Cause(watching)
}

func (l *line) Close() error { return nil }

// testNode is a Member, and what it has told.
type testNode struct {
	*cluster.Member
	line *line
	stop func()

	mu                  sync.Mutex
	superseded, changed []string
	states              []string
	troubles            []error
}

func (n *testNode) told(what *[]string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := slices.Clone(*what)
	*what = nil
	return s
}

var testKeys = sync.OnceValue(func() *cluster.Keys {
	k, err := cluster.NewKeys([]byte("a secret that all nodes have"))
	if err != nil {
		panic(err)
	}
	return k
})

// startNode starts a node on store, which ends with the test. Each change may be nil.
func startNode(t *testing.T, store *cluster.Memory, name string, change func(*cluster.MemberConfig), before func(*testNode)) *testNode {
	t.Helper()
	n := &testNode{line: newLine(store)}
	cfg := cluster.MemberConfig{
		Directory: n.line, Name: name, Addr: name + ".test:443", Version: "test", Keys: testKeys(),
		Superseded: func(id string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.superseded = append(n.superseded, id)
		},
		Changed: func(id string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.changed = append(n.changed, id)
		},
		NodeChanged: func(of cluster.Node, s cluster.NodeState) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.states = append(n.states, fmt.Sprint(of.Name, " ", s))
		},
		Trouble: func(err error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.troubles = append(n.troubles, err)
		},
	}
	if change != nil {
		change(&cfg)
	}
	n.Member = cluster.NewMember(cfg)
	if before != nil {
		before(n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Run(ctx)
	}()
	n.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(n.stop)
	synctest.Wait()
	return n
}

// start starts nodes, and lets them get to know each other.
func start(t *testing.T, store *cluster.Memory, names ...string) []*testNode {
	t.Helper()
	nodes := make([]*testNode, len(names))
	for i, name := range names {
		nodes[i] = startNode(t, store, name, nil, nil)
	}
	elapse(2 * cluster.BeatEvery)
	for _, n := range nodes {
		n.told(&n.states)
		n.told(&n.changed)
	}
	return nodes
}

// elapse lets time pass.
func elapse(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// at returns the name of the node that n finds for id, "absent" or "unknown".
func (n *testNode) at(t *testing.T, id string) string {
	t.Helper()
	h, err := n.Find(t.Context(), id)
	switch {
	case err == nil && h.Node.Name == n.Name():
		t.Errorf("%s finds itself for %s", n.Name(), id)
		return "itself"
	case err == nil && h.Suspect:
		return h.Node.Name + "?"
	case err == nil:
		return h.Node.Name
	case err == cluster.ErrAbsent:
		return "absent"
	case errors.Is(err, cluster.ErrUnknown):
		return "unknown"
	}
	t.Errorf("Find(%s) on %s: %v, which is neither ErrAbsent nor ErrUnknown", id, n.Name(), err)
	return "error"
}

func (n *testNode) wantAt(t *testing.T, id, want string) {
	t.Helper()
	if got := n.at(t, id); got != want {
		t.Errorf("%s finds %s at %s, want %s", n.Name(), id, got, want)
	}
}

func from(instance string, attempt uint64) cluster.Origin {
	return cluster.Origin{Instance: instance, Attempt: attempt}
}
