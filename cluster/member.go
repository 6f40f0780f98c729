package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// MemberConfig configures a [Member].
type MemberConfig struct {
	// Directory is what the nodes share. Required.
	Directory Directory

	// Name is the node's, which no other node of the cluster has. Required.
	Name string

	// Addr is where other nodes reach this one: host:port. Required.
	Addr string

	// Version is the program's, for people.
	Version string

	// Keys are the cluster's. Required.
	Keys *Keys

	// Superseded, if not nil, is told that a newer session of id is on another node:
	// the one here takes no more requests. It must not block. By then, the node may
	// have registered yet another session, which is not meant: see [Member.Holds].
	Superseded func(id string)

	// Changed, if not nil, is told that another node has announced id. It must not
	// block.
	Changed func(id string)

	// NodeChanged, if not nil, is told of each change of a node's state. It must not
	// block.
	NodeChanged func(Node, NodeState)

	// Trouble, if not nil, is told when the directory fails, with its error, and, with
	// nil, when all of it works again: beats, entries and events. It must not block.
	Trouble func(error)
}

// A Member is this node in its cluster: it announces the ids that it serves, and finds
// the nodes that serve others. What the directory does not answer in time is
// unknown; that never concerns an id that is served here, since nobody asks for it.
type Member struct {
	cfg    MemberConfig
	boot   string
	clock  func() time.Time                  // for what nodes compare with each other
	jitter func(time.Duration) time.Duration // rand.N
	stats  stats
	limit  lookupLimit
	beats  confirmation

	looking context.Context // of lookups: it ends with Run
	giveUp  context.CancelFunc
	lookups sync.WaitGroup

	wake   chan struct{} // capacity 1: there is something to announce
	beatIt chan struct{} // capacity 1: a beat is wanted now
	beaten chan struct{} // closed once the directory has had a beat

	mu       sync.Mutex
	draining bool
	ended    bool // Run has
	failing  [parts]bool
	hearing  bool      // what happens in the directory is heard
	last     time.Time // Beat of the last record
	lost     time.Time // until then, this node announces again what may have been lost
	nodes    map[string]*peer
	held     map[string]*hold
	dirty    map[string]struct{} // ids whose entries have to be put or deleted
	gone     map[string][]Entry  // entries to be deleted, of ids that are not held
	cache    cache
	flights  map[string]*flight
}

// stats are counters, for metrics.
type stats struct {
	lookups, cached, absent, unknown, limited     atomic.Uint64
	claims, restored, superseded, forged, resyncs atomic.Uint64
}

// NewMember returns a Member that does nothing before Run.
func NewMember(cfg MemberConfig) *Member {
	m := &Member{
		cfg: cfg, boot: rand.Text()[:16], clock: time.Now, jitter: mathrand.N[time.Duration],
		wake:    make(chan struct{}, 1),
		beatIt:  make(chan struct{}, 1),
		beaten:  make(chan struct{}),
		nodes:   make(map[string]*peer),
		held:    make(map[string]*hold),
		dirty:   make(map[string]struct{}),
		gone:    make(map[string][]Entry),
		flights: make(map[string]*flight),
	}
	m.looking, m.giveUp = context.WithCancel(context.Background())
	m.cache.init()
	m.limit.init()
	m.beats.init()
	return m
}

// Name returns the node's name.
func (m *Member) Name() string { return m.cfg.Name }

// Boot returns what tells this process apart from earlier ones of the same name.
func (m *Member) Boot() string { return m.boot }

// Run takes part in the cluster until ctx ends. Then the node says goodbye, as far as
// the directory lets it within a second, and Find finds nothing any more. It is called
// once.
func (m *Member) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { m.watch(ctx) })
	wg.Go(func() { m.announce(ctx) })
	wg.Go(func() { m.beat(ctx) })
	wg.Wait()
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.giveUp()
	m.lookups.Wait()
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	m.mu.Lock()
	entries := make([]Entry, 0, len(m.held)+len(m.gone))
	for _, h := range m.held {
		entries = append(entries, h.stored()...)
	}
	for _, stored := range m.gone {
		entries = append(entries, stored...)
	}
	m.mu.Unlock()
	if len(entries) > 0 {
		_ = m.cfg.Directory.Delete(bye, entries)
	}
	_ = m.cfg.Directory.Leave(bye, m.record())
}

// Drain says that the node takes no new sessions.
func (m *Member) Drain() {
	m.mu.Lock()
	m.draining = true
	m.mu.Unlock()
	m.beatSoon()
}

// record returns this node as others see it.
func (m *Member) record() Node {
	m.mu.Lock()
	if now := m.clock().Truncate(time.Millisecond); now.After(m.last) {
		m.last = now // otherwise the clock has been put back
	}
	n := Node{Name: m.cfg.Name, Boot: m.boot, Addr: m.cfg.Addr, Version: m.cfg.Version, State: Up, Tunnels: len(m.held), Beat: m.last}
	switch {
	case time.Now().Before(m.lost):
		n.State = Restoring // even if it drains: others have to know
	case m.draining:
		n.State = Draining
	}
	m.mu.Unlock()
	m.cfg.Keys.SignNode(&n)
	return n
}

// part is something that the directory does for a node. One can fail while others work.
type part int

const (
	beating part = iota // beats, and reading the nodes
	announcing
	watching
	parts
)

// note is told how an operation of p has ended.
func (m *Member) note(p part, err error) {
	if errors.Is(err, context.Canceled) {
		return // by Run
	}
	m.mu.Lock()
	before := m.failing
	m.failing[p] = err != nil
	now := m.failing
	m.mu.Unlock()
	if was, is := before != [parts]bool{}, now != [parts]bool{}; was != is && m.cfg.Trouble != nil {
		m.cfg.Trouble(err)
	}
}

// silentLocked reports whether the directory does not answer.
func (m *Member) silentLocked() bool { return m.failing[beating] }

// A Status is what a Member knows of its cluster.
type Status struct {
	Name, Boot string
	Reachable  bool // all parts of the directory work
	Whole      bool // it has all that it had been told, as far as this node knows
	Announced  int  // ids that this node serves
	Pending    int  // ids of which the directory has not been told the last change yet
	Cached     int  // ids of which this node knows which other serves them
	Nodes      []NodeStatus

	// Counted since the start. Lookups are calls of Find; Limited are those of Unknown that
	// the directory was not asked for, since it had been asked enough.
	Lookups, CacheHits, Absent, Unknown, Limited  uint64
	Claims, Restored, Superseded, Forged, Resyncs uint64
}

// A NodeStatus is a node and what this one thinks of it.
type NodeStatus struct {
	Node
	Seen NodeState
}

// Status returns what the Member knows now. The nodes are in no particular order.
func (m *Member) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Name: m.cfg.Name, Boot: m.boot,
		Reachable: m.failing == [parts]bool{}, Whole: m.wholeLocked(),
		Announced: len(m.held), Pending: len(m.dirty), Cached: m.cache.len(),
		Lookups: m.stats.lookups.Load(), CacheHits: m.stats.cached.Load(), Absent: m.stats.absent.Load(),
		Unknown: m.stats.unknown.Load(), Limited: m.stats.limited.Load(), Claims: m.stats.claims.Load(),
		Restored: m.stats.restored.Load(), Superseded: m.stats.superseded.Load(), Forged: m.stats.forged.Load(), Resyncs: m.stats.resyncs.Load(),
	}
	for _, p := range m.nodes {
		if p.state != NodeGone {
			s.Nodes = append(s.Nodes, NodeStatus{p.Node, p.state})
		}
	}
	return s
}

// wholeLocked reports whether an absent id can be believed to be absent: whether the
// directory answers and is heard, and no node is announcing again what it may have lost.
func (m *Member) wholeLocked() bool {
	if m.silentLocked() || !m.hearing || time.Now().Before(m.lost) {
		return false
	}
	for _, p := range m.nodes {
		if p.State == Restoring && p.Boot != m.boot && p.state == NodeUp {
			return false
		}
	}
	return true
}
