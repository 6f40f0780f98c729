package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// look notes since when the store has the entries of which sessions, and the nodes.
func (m *model) look() {
	list, _ := m.store.Nodes(context.Background())
	for _, n := range m.nodes {
		if n.known.IsZero() && slices.ContainsFunc(list, func(o cluster.Node) bool { return o.Boot == n.Boot() }) {
			n.known = time.Now()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		e, err := m.store.Get(context.Background(), s.id)
		has := s.open && err == nil && e.Boot == s.node.Boot() && e.Attempt == s.attempt &&
			e.Instance == fmt.Sprint("process", s.process)
		switch {
		case !has:
			s.stored = time.Time{}
		case s.stored.IsZero():
			s.stored = time.Now()
		}
		if s.stored.Before(m.lost) && has {
			s.stored = time.Now() // it may have been lost, and put again
		}
	}
}

// stored is called when the store has taken e, which it did not have. It may have lost
// it again before the next look.
func (m *model) stored(e cluster.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		if s.id == e.ID {
			s.stored = time.Time{} // look finds the one that it is
		}
	}
}

const (
	// unheard is how long a node may say "absent" though an entry has been stored: if the
	// event is lost, as long as a lookup may take, and its answer is believed.
	unheard = cluster.StoreTimeout + cluster.AbsentLife

	// unnoticed is how long after a loss, or after a node reaches the store again, that
	// node may not have noticed that the store has lost its entries, and another one may
	// not have heard of it: a beat of each, and an operation that hangs.
	unnoticed = 2 * (cluster.BeatEvery + cluster.StoreTimeout)
)

// wrongAbsent returns why n must not say that id is absent, or "" if it may. It must not
// while another node holds a session for id which it has announced. That is:
//
//   - The store has had the session's entry for longer than unheard. Whatever faults the
//     lines have, n must find it, or say that it does not know.
//   - The store had the entry, and has lost it. n must say that it does not know until it
//     is there again. It cannot know of a loss from before its first beat before another node
//     has noticed it and said so; nor does it wait for a node that does not reach the store
//     itself, whose entries have been lost or have run out meanwhile. Both end unnoticed
//     after the loss, or after that node's line was mended.
func (m *model) wrongAbsent(n *modelNode, id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for _, s := range m.sessions {
		p := s.node
		if s.id != id || p == n || !s.open || !p.Announced(id) || !p.Holds(id) {
			continue
		}
		p.mu.Lock()
		active := p.active[id] == s
		p.mu.Unlock()
		if !active {
			continue
		}
		if !s.stored.IsZero() {
			if d := now.Sub(s.stored); d > unheard {
				return fmt.Sprintf("%v has been in the directory for %v", s, d)
			}
			continue
		}
		if m.newerLocked(s) {
			continue // its entry has been replaced, and may have been deleted since
		}
		since := m.lost
		if p.faulty {
			since = now
		} else if p.fault.After(since) {
			since = p.fault
		} else if !n.known.IsZero() && n.known.Before(m.lost) {
			return fmt.Sprintf("%v was lost at %v, which %s has noticed", s, m.lost.Sub(m.started), n.Name())
		}
		if d := now.Sub(since); d > unnoticed {
			return fmt.Sprintf("%v was lost, and its node has reached the store for %v", s, d)
		}
	}
	return ""
}

// wrongUnknown returns why n must know where id is, or "": it has found the session less
// than ten minutes ago, and nothing has happened to it. What the store says or does not say
// does not matter then; but a node whose record stays away for ten minutes is forgotten.
func (m *model) wrongUnknown(n *modelNode, id string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, t := range m.found {
		if key.by != n || key.at.id != id || time.Since(t) > cluster.Suspicion {
			continue
		}
		if p := key.at.node; p.faulty && time.Since(p.broke) > cluster.Suspicion {
			continue
		}
		return fmt.Sprintf("it has found %v at %v", key.at, t.Sub(m.started))
	}
	return ""
}

// knows notes that n has found s, unless another node has still to tell the store about
// its own sessions, of which n may hear.
func (m *model) knows(n *modelNode, s *modelSession) {
	for _, o := range m.nodes {
		if o != s.node && o.Sizes().Dirty > 0 {
			return
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.found[foundKey{n, s}] = time.Now()
}

// changedLocked is told that something happens to a session of id.
func (m *model) changedLocked(id string) {
	maps.DeleteFunc(m.found, func(key foundKey, _ time.Time) bool { return key.at.id == id })
}

// newerLocked reports whether there has been a newer session than s.
func (m *model) newerLocked(s *modelSession) bool {
	for _, o := range m.sessions {
		if o.id == s.id && o.newerThan(s) {
			return true
		}
	}
	return false
}

// settled mends everything, waits until touches and whatever a loss has begun are over, and
// then wants of each id: the newest session that is open is in service, no other is, and
// every node finds it. If there is none, every node says that the id is absent.
func (m *model) settled() {
	m.log("all is well again")
	for _, n := range m.nodes {
		m.mend(n)
	}
	clear(m.apart)
	m.elapse(cluster.TouchEvery*6/5 + cluster.Reassertion + 2*cluster.BeatEvery)
	for _, n := range m.nodes {
		if s := n.Status(); !s.Whole || !s.Reachable || s.Pending > 0 {
			m.errorf("in the end: %+v", s)
		}
	}
	for k := range modelIDs {
		id := fmt.Sprint("id", k)
		var newest *modelSession
		m.mu.Lock()
		for _, s := range m.sessions {
			if s.id == id && s.open && (newest == nil || s.newerThan(newest)) {
				newest = s
			}
		}
		m.mu.Unlock()
		for _, n := range m.nodes {
			n.mu.Lock()
			active := n.active[id]
			n.mu.Unlock()
			if active != nil && active != newest {
				m.errorf("in the end, %s has %v in service, want %v", n.Name(), active, newest)
			}
			if got := m.requestTo(n, id); got != newest {
				m.errorf("in the end, a request to %s for %s goes to %v, want %v", n.Name(), id, got, newest)
			}
		}
	}
}
