package cluster

import (
	"context"
	"sync"
	"time"
)

const (
	beatEvery    = 3 * time.Second
	beatRetry    = time.Second // after one that the directory has not taken
	storeTimeout = 2 * time.Second

	// beatGap is the least time between two beats. Lookups that find nothing share a
	// beat, which confirms them.
	beatGap = 50 * time.Millisecond

	// nodesGap is how old the picture of the nodes may be when a lookup needs it.
	nodesGap = 250 * time.Millisecond

	// reassertion is how long a node takes to announce again all that it serves, after
	// the directory may have lost it, with something to spare.
	reassertion = 25 * time.Second
)

// NodeState says what a node seems to be to another one.
type NodeState string

// The states of nodes, as others see them.
const (
	NodeUp       NodeState = "up"
	NodeDraining NodeState = "draining"
	NodeSuspect  NodeState = "suspect" // its key has run out, and it has not said goodbye
	NodeGone     NodeState = "gone"    // it has said goodbye
)

// peer is a node, this one included.
type peer struct {
	Node
	state NodeState
	seen  time.Time // when its record was last there
	since time.Time // when it became suspect or gone

	// contested says that there is a record of another process of this name, and that
	// it is not known yet which is the later one.
	contested bool
}

// memory is how long a node that is suspect or gone is remembered: as long as there can
// be entries that name it.
const memory = EntryLife

// beat keeps the node's record in the directory alive, and its own picture of the
// others up to date.
func (m *Member) beat(ctx context.Context) {
	first, unsure := true, false
	var read time.Time
	for ctx.Err() == nil {
		began := time.Now()
		c := m.beats.begin()
		known, err := m.beatOnce(ctx)
		switch {
		case err != nil:
			unsure = true // it may have put the record back, where it was missing
		case first:
			close(m.beaten)
			first, unsure = false, false
		case !known || unsure:
			m.notWhole()
			_, err = m.beatOnce(ctx) // so that the record says so
			unsure = err != nil
		}
		// Not at each beat that confirms a lookup: the nodes are many operations.
		if age := time.Since(read); age > beatEvery*9/10 || c.nodes && age > nodesGap {
			if err == nil {
				err = m.refreshNodes(ctx)
			}
			if err == nil {
				read = time.Now()
			}
		}
		m.beats.end(c, err == nil && known)
		m.rest(ctx, began, err)
	}
}

// rest waits until the next beat is due, after one that began then.
func (m *Member) rest(ctx context.Context, began time.Time, err error) {
	wait := beatEvery
	if err != nil {
		wait = beatRetry
	}
	m.mu.Lock()
	if d := time.Until(m.lost); d > 0 {
		wait = min(wait, d) // to say at once that all is announced again
	}
	m.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	case <-m.beatIt:
		select {
		case <-ctx.Done():
		case <-time.After(beatGap - time.Since(began)):
		}
	}
}

// beatSoon asks for a beat, which begins after this call.
func (m *Member) beatSoon() {
	select {
	case m.beatIt <- struct{}{}:
	default:
	}
}

func (m *Member) beatOnce(ctx context.Context) (known bool, err error) {
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	known, err = m.cfg.Directory.Beat(op, m.record())
	m.note(beating, err)
	return known, err
}

// notWhole is called when the directory may have lost what it had been told. This node
// announces everything again, spread over a while. Absent ids are unknown until then: here,
// and on the other nodes, which learn of it from the node's record.
func (m *Member) notWhole() {
	m.stats.resyncs.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = time.Now().Add(reassertion)
	for _, h := range m.held {
		h.due = time.Now().Add(m.jitter(reassertion * 4 / 5))
	}
	m.beatSoon()
}

// refreshNodes reads which nodes there are.
func (m *Member) refreshNodes(ctx context.Context) error {
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	began := time.Now()
	list, err := m.cfg.Directory.Nodes(op)
	m.note(beating, err)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(list))
	for _, n := range list {
		if m.setNode(n) {
			there[n.Name] = true
		}
	}
	var changed []peer
	m.mu.Lock()
	for name, p := range m.nodes {
		switch {
		case there[name], p.seen.After(began): // it has come since the list was made
		case p.state == NodeSuspect || p.state == NodeGone:
			if time.Since(p.since) > memory {
				delete(m.nodes, name)
			}
		default:
			p.state, p.since = NodeSuspect, time.Now()
			changed = append(changed, *p)
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

// setNode takes n into the picture, and reports whether it shows that the node is there.
func (m *Member) setNode(n Node) bool {
	if !m.cfg.Keys.CheckNode(n) {
		m.stats.forged.Add(1)
		return false
	}
	p := peer{Node: n, state: NodeUp, seen: time.Now()}
	if n.State == Draining {
		p.state = NodeDraining
	}
	m.mu.Lock()
	before := m.nodes[n.Name]
	if before != nil {
		switch {
		case before.state == NodeGone && before.Boot == n.Boot && !n.Beat.After(before.Beat):
			m.mu.Unlock()
			return false // it was read before the goodbye
		case n.Beat.Before(before.Beat) && time.Since(before.seen) < NodeLife:
			// Somebody has put it back, or the node was restarted and its clock is
			// behind: if so, the other record stays away.
			before.contested = before.contested || n.Boot != before.Boot
			m.mu.Unlock()
			return before.state != NodeSuspect
		}
	}
	changed := before == nil || before.Boot != n.Boot || before.state != p.state
	kept := p
	m.nodes[n.Name] = &kept
	m.mu.Unlock()
	if changed {
		m.tellNode(p)
	}
	return true
}

// nodeLeft is called when n has said goodbye. It is remembered, since entries may name it.
func (m *Member) nodeLeft(n Node) {
	if !m.cfg.Keys.CheckNode(n) {
		m.stats.forged.Add(1)
		return
	}
	m.mu.Lock()
	p := m.nodes[n.Name]
	if p == nil || p.Boot != n.Boot || p.state == NodeGone || n.Beat.Before(p.Beat) {
		m.mu.Unlock()
		return
	}
	p.Node, p.state, p.since = n, NodeGone, time.Now()
	left := *p
	m.mu.Unlock()
	m.tellNode(left)
}

// watch hears what happens in the directory. While it does not, another store may have
// taken the place of the one that it heard.
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
				m.setHearing(true)
				m.note(watching, nil)
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
		m.setHearing(false)
		if ctx.Err() != nil {
			return
		}
		m.note(watching, err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second/2 + m.jitter(time.Second/2)):
		}
	}
}

func (m *Member) setHearing(yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hearing = yes
}

// confirmation lets lookups that found nothing wait until a beat that began after
// them has seen the node's own record: otherwise the directory has been lost, and
// nothing follows from what it does not have.
type confirmation struct {
	mu   sync.Mutex
	next *confirmed // what the next beat will settle
}

type confirmed struct {
	nodes bool // a lookup needs a new picture of the nodes
	done  chan struct{}
	ok    bool // set before done is closed
}

func (c *confirmation) init() { c.next = &confirmed{done: make(chan struct{})} }

// wait returns what the next beat to begin will settle.
func (c *confirmation) wait(nodes bool) *confirmed {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next.nodes = c.next.nodes || nodes
	return c.next
}

// begin returns what the beat that begins now will settle.
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
