package cluster

import (
	"context"
	"sync"
	"time"
)

// Memory is a Directory for nodes of one process: for a single node, and for tests.
// The zero value is ready to use. Entries and nodes live as long as in any other.
type Memory struct {
	mu       sync.Mutex
	entries  map[string]storedEntry
	nodes    map[string]storedNode
	watchers map[chan Event]struct{}

	clock func() time.Time // nil means time.Now
}

type storedEntry struct {
	Entry
	until time.Time
}

type storedNode struct {
	Node
	until time.Time
}

var _ Directory = (*Memory)(nil)

// Put implements [Directory].
func (m *Memory) Put(ctx context.Context, entries []Entry) ([]Outcome, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = make(map[string]storedEntry)
	}
	out := make([]Outcome, len(entries))
	for i, e := range entries {
		before := m.entryLocked(e.ID)
		out[i] = Outcome{Judge(before, e), before}
		switch out[i].Verdict {
		case Stored:
			m.tellLocked(Event{Kind: EventClaimed, Entry: e})
		case Behind, Superseded:
			continue
		}
		m.entries[e.ID] = storedEntry{e, m.now().Add(EntryLife)}
	}
	return out, nil
}

func (m *Memory) now() time.Time {
	if m.clock != nil {
		return m.clock()
	}
	return time.Now()
}

// entryLocked returns the entry of id, whose ID is empty if there is none.
func (m *Memory) entryLocked(id string) Entry {
	e, ok := m.entries[id]
	if ok && !m.now().Before(e.until) {
		delete(m.entries, id)
		return Entry{}
	}
	return e.Entry
}

// Delete implements [Directory].
func (m *Memory) Delete(ctx context.Context, entries []Entry) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		if m.entryLocked(e.ID) == e {
			delete(m.entries, e.ID)
			m.tellLocked(Event{Kind: EventReleased, Entry: e})
		}
	}
	return nil
}

// Get implements [Directory].
func (m *Memory) Get(ctx context.Context, id string) (Entry, error) {
	if err := ctx.Err(); err != nil {
		return Entry{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entryLocked(id)
	if e.ID == "" {
		return Entry{}, ErrAbsent
	}
	return e, nil
}

// Beat implements [Directory].
func (m *Memory) Beat(ctx context.Context, n Node) (known bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = make(map[string]storedNode)
	}
	before, ok := m.nodes[n.Name]
	ok = ok && m.now().Before(before.until) && before.Boot == n.Boot
	m.nodes[n.Name] = storedNode{n, m.now().Add(NodeLife)}
	if !ok || before.State != n.State || before.Addr != n.Addr {
		m.tellLocked(Event{Kind: EventNodeChanged, Node: n})
	}
	return ok, nil
}

// Leave implements [Directory].
func (m *Memory) Leave(ctx context.Context, n Node) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if before, ok := m.nodes[n.Name]; ok && before.Boot == n.Boot {
		delete(m.nodes, n.Name)
		m.tellLocked(Event{Kind: EventNodeLeft, Node: n})
	}
	return nil
}

// Nodes implements [Directory].
func (m *Memory) Nodes(ctx context.Context) ([]Node, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []Node
	for name, n := range m.nodes {
		if !m.now().Before(n.until) {
			delete(m.nodes, name)
			continue
		}
		list = append(list, n.Node)
	}
	return list, nil
}

// maxUnheard is how many events may wait for a watcher. One that falls behind is
// told to begin again.
const maxUnheard = 1024

// Watch implements [Directory].
func (m *Memory) Watch(ctx context.Context, f func(Event)) error {
	events := make(chan Event, maxUnheard)
	m.mu.Lock()
	if m.watchers == nil {
		m.watchers = make(map[chan Event]struct{})
	}
	m.watchers[events] = struct{}{}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, events)
	}()
	f(Event{Kind: EventResync})
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return errUnheard
			}
			f(e)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Memory) tellLocked(e Event) {
	for c := range m.watchers {
		select {
		case c <- e:
		default:
			delete(m.watchers, c)
			close(c)
		}
	}
}

// Flush forgets everything, as a store does that is started anew.
func (m *Memory) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.entries)
	clear(m.nodes)
}

// Close implements [Directory].
func (m *Memory) Close() error { return nil }
