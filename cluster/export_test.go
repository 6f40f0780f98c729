package cluster

import (
	"maps"
	"sync"
	"time"
)

// Bounds and timings that tests look at.
const (
	BeatEvery     = beatEvery
	StoreTimeout  = storeTimeout
	LookupTimeout = lookupTimeout
	AbsentLife    = absentLife
	CacheLife     = cacheLife
	TouchEvery    = touchEvery
	Reassertion   = reassertion
	Suspicion     = memory
	MaxCached     = maxCached
	MaxAbsent     = maxAbsent
)

// SetClock gives the node a wall clock of its own. It is called before Run.
func (m *Member) SetClock(clock func() time.Time) { m.clock = clock }

// SetClock makes now the clock of m, which nobody uses yet.
func (m *Memory) SetClock(now func() time.Time) { m.clock = now }

// SetJitter gives the node a random number of its own, from 0 to below the one given. It
// is called before Run, and f is called by one goroutine at a time.
func (m *Member) SetJitter(f func(time.Duration) time.Duration) {
	var mu sync.Mutex
	m.jitter = func(d time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return f(d)
	}
}

// Sizes are the lengths of a Member's maps.
type Sizes struct{ Held, Dirty, Gone, Cached, Absent, Flights, Nodes int }

// Sizes returns them.
func (m *Member) Sizes() Sizes {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Sizes{len(m.held), len(m.dirty), len(m.gone), len(m.cache.ids), len(m.cache.absent), len(m.flights), len(m.nodes)}
}

// Heard tells the Member that e has been stored.
func (m *Member) Heard(e Entry) { m.heard(e) }

// Announced reports whether the directory has had the last registration of id.
func (m *Member) Announced(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.held[id]
	return h != nil && h.announced
}

// A Snapshot is what a Memory has held.
type Snapshot struct {
	entries map[string]storedEntry
	nodes   map[string]storedNode
}

// Snapshot returns what m holds.
func (m *Memory) Snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Snapshot{maps.Clone(m.entries), maps.Clone(m.nodes)}
}

// Restore makes m hold what it has held then, as a replica does that has missed writes.
func (m *Memory) Restore(s Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries, m.nodes = maps.Clone(s.entries), maps.Clone(s.nodes)
}

// Write stores e as somebody does who does not keep the rules.
func (m *Memory) Write(id string, e Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entries == nil {
		m.entries = make(map[string]storedEntry)
	}
	e.ID = id
	m.entries[id] = storedEntry{e, time.Now().Add(EntryLife)}
}

// WriteNode does so with n.
func (m *Memory) WriteNode(n Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = make(map[string]storedNode)
	}
	m.nodes[n.Name] = storedNode{n, time.Now().Add(NodeLife)}
}

// Tell sends e to all that watch.
func (m *Memory) Tell(e Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tellLocked(e)
}
