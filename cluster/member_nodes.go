package cluster

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	beatEvery    = 3 * time.Second
	storeTimeout = 2 * time.Second

	// reassertion is how long the nodes take to announce again all that they serve,
	// after the directory may have lost it.
	reassertion = 30 * time.Second
)

// NodeState says what a node seems to be to another one.
type NodeState string

// The states of nodes, as others see them.
const (
	NodeUp       NodeState = "up"
	NodeDraining NodeState = "draining"
	NodeSuspect  NodeState = "suspect" // its key has run out, and it has not said goodbye
)

// peer is a node, this one included.
type peer struct {
	Node
	state NodeState
	since time.Time // suspect
}

// suspicion is how long a node is remembered that has not said goodbye.
const suspicion = EntryLife

// beat keeps the node's record in the directory alive, and its own picture of the
// others up to date.
func (m *Member) beat(ctx context.Context) {
	first := true
	var read time.Time
	for ctx.Err() == nil {
		known, err := m.beatOnce(ctx)
		if err == nil {
			if !known && !first {
				m.notWhole()
			}
			first = false
		}
		if time.Since(read) > beatEvery*9/10 { // not at each beat that confirms a lookup
			read = time.Now()
			m.noteStore(m.refreshNodes(ctx))
		}
		select {
		case <-ctx.Done():
		case <-m.beatIt:
		case <-time.After(beatEvery):
		}
	}
}

func (m *Member) beatSoon() {
	select {
	case m.beatIt <- struct{}{}:
	default:
	}
}

// beatOnce is one beat, which may confirm what lookups have found.
func (m *Member) beatOnce(ctx context.Context) (known bool, err error) {
	c := m.beats.begin()
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	known, err = m.cfg.Directory.Beat(op, m.record())
	m.noteStore(err)
	m.beats.end(c, err == nil && known)
	return known, err
}

// notWhole says that the directory may have lost what it had been told. Everything
// is announced again, spread, and absent ids are unknown until that is over.
func (m *Member) notWhole() {
	m.stats.resyncs.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = time.Now().Add(reassertion)
	m.cache.forgetAbsent()
	for _, h := range m.held {
		h.due = time.Now().Add(rand.N(reassertion * 2 / 3))
	}
}

// refreshNodes reads which nodes there are.
func (m *Member) refreshNodes(ctx context.Context) error {
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	list, err := m.cfg.Directory.Nodes(op)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(list))
	for _, n := range list {
		there[n.Name] = m.setNode(n)
	}
	var changed []peer
	m.mu.Lock()
	for name, p := range m.nodes {
		switch {
		case there[name]:
		case p.state != NodeSuspect:
			p.state, p.since = NodeSuspect, time.Now()
			changed = append(changed, *p)
		case time.Since(p.since) > suspicion:
			delete(m.nodes, name)
		}
	}
	m.mu.Unlock()
	for _, p := range changed {
		m.tellNode(p)
	}
	return nil
}

func (m *Member) tellNode(p peer) {
	if m.cfg.NodeChanged != nil {
		m.cfg.NodeChanged(p.Node, p.state)
	}
}

// setNode takes n into the picture, and reports whether a node has signed it.
func (m *Member) setNode(n Node) bool {
	if !m.cfg.Keys.CheckNode(n) {
		m.stats.forged.Add(1)
		return false
	}
	state := NodeUp
	if n.State == Draining {
		state = NodeDraining
	}
	p := &peer{Node: n, state: state}
	m.mu.Lock()
	before := m.nodes[n.Name]
	if before != nil && n.Beat.Before(before.Beat) { // somebody may have put it back
		m.mu.Unlock()
		return before.state != NodeSuspect
	}
	m.nodes[n.Name] = p
	m.mu.Unlock()
	if before == nil || before.Boot != n.Boot || before.state != state {
		m.tellNode(*p)
	}
	return true
}

// nodeLeft forgets n, which has said goodbye.
func (m *Member) nodeLeft(n Node) {
	if !m.cfg.Keys.CheckNode(n) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.nodes[n.Name]; p != nil && p.Boot == n.Boot {
		delete(m.nodes, n.Name)
	}
}

// watch hears what happens in the directory.
func (m *Member) watch(ctx context.Context) {
	first := true
	for ctx.Err() == nil {
		err := m.cfg.Directory.Watch(ctx, func(e Event) {
			switch e.Kind {
			case EventResync:
				if !first {
					m.notWhole()
				}
				first = false
			case EventClaimed:
				m.heard(e.Entry)
			case EventReleased:
				m.released(e.Entry)
			case EventNodeChanged:
				m.setNode(e.Node)
			case EventNodeLeft:
				m.nodeLeft(e.Node)
			}
		})
		if ctx.Err() != nil {
			return
		}
		m.noteStore(err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second/2 + rand.N(time.Second/2)):
		}
	}
}

// confirmation lets lookups that found nothing wait until a beat that began after
// them has seen the node's own record: otherwise the directory has been lost, and
// nothing follows from what it does not have.
type confirmation struct {
	mu   sync.Mutex
	next *confirmed // what the next beat will settle
}

type confirmed struct {
	done chan struct{}
	ok   bool // set before done is closed
}

func (c *confirmation) init() { c.next = &confirmed{done: make(chan struct{})} }

// wait returns what the next beat to begin will settle.
func (c *confirmation) wait() *confirmed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next
}

func (c *confirmation) begin() *confirmed {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.next
	c.init()
	return now
}

func (c *confirmation) end(now *confirmed, ok bool) {
	now.ok = ok
	close(now.done)
}
