package cluster

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

const (
	// lookupTimeout is how long Find waits for the directory. The lookup itself goes on
	// for storeTimeout, so that the next one finds what a slow directory says.
	lookupTimeout = 250 * time.Millisecond

	// What is known of an id is believed for cacheLife or absentLife, since events may be
	// lost; and for staleLife more while the directory does not answer, or may have lost
	// it: a node that does not serve the id says so.
	cacheLife  = 30 * time.Second
	absentLife = time.Second
	staleLife  = 10 * time.Minute

	// The directory's load is bounded by these, and not by viewers. With what beats
	// cost besides, it is below 1,000 operations a second.
	lookupsPerSecond = 850
	lookupsBurst     = 50
	lookupsAtOnce    = 256
	lookupQueue      = 100 * time.Millisecond // how long one waits for its turn
)

// ErrUnknown says that the directory does not answer, or may not have all that it
// had been told: where an id is served, if anywhere, is not known now.
var ErrUnknown = errors.New("cluster: the directory does not say where this id is served")

// A Holder is the node that serves an id, as far as is known.
type Holder struct {
	Node    Node
	Suspect bool   // it has not said for a while that it is alive
	Gen     uint64 // of the entry that says so
}

// Find returns the node that serves id, which is never this one. The error is ErrAbsent
// itself if there is none, and otherwise wraps ErrUnknown. Find takes a quarter of a second
// at most.
func (m *Member) Find(ctx context.Context, id string) (Holder, error) {
	m.stats.lookups.Add(1)
	h, err := m.find(ctx, id)
	switch {
	case errors.Is(err, ErrAbsent):
		m.stats.absent.Add(1)
	case err != nil:
		m.stats.unknown.Add(1)
	}
	return h, err
}

func (m *Member) find(ctx context.Context, id string) (Holder, error) {
	now := time.Now()
	m.mu.Lock()
	if c, ok := m.cache.holder(id); ok && (now.Before(c.until) || m.silentLocked() && now.Before(c.until.Add(staleLife))) {
		if h, ok := m.holderLocked(c); ok {
			if c.until.Sub(now) < cacheLife/3 && !m.silentLocked() {
				m.flyLocked(id) // so that it is there when the directory is slow
			}
			m.mu.Unlock()
			m.stats.cached.Add(1)
			return h, nil
		}
	}
	if m.cache.isAbsent(id, now) && m.wholeLocked() {
		m.mu.Unlock()
		m.stats.cached.Add(1)
		return Holder{}, ErrAbsent
	}
	f := m.flyLocked(id)
	m.mu.Unlock()
	if f == nil {
		m.stats.limited.Add(1)
		return m.stale(id, ErrUnknown)
	}
	patience := time.NewTimer(lookupTimeout)
	defer patience.Stop()
	select {
	case <-f.done:
		return f.holder, f.err
	case <-patience.C:
		return m.stale(id, errors.Join(ErrUnknown, errSlow))
	case <-ctx.Done():
		return Holder{}, errors.Join(ErrUnknown, ctx.Err())
	}
}

var errSlow = errors.New("cluster: the directory is slow")

// Recheck says that the node of h cannot be reached: the next Find asks the directory
// whether another one serves id now. If that does not answer, h stays known.
func (m *Member) Recheck(id string, h Holder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.cache.holder(id); ok && c.gen == h.Gen {
		if now := time.Now(); now.Before(c.until) {
			c.until = now
			m.cache.put(id, c)
		}
	}
}

// Doubt says that the node of h does not serve id: what is known of it is forgotten.
func (m *Member) Doubt(id string, h Holder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.cache.holder(id); ok && c.gen == h.Gen {
		m.cache.forget(id)
	}
}

// Misled says that another node has taken this one for that of id, which is not served here.
// If the directory has an entry that says so, it is deleted: a directory that has lost what
// it was told last may have such entries, which would mislead others until they run out.
func (m *Member) Misled(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held[id] != nil || m.gone[id] != nil || m.cache.isAbsent(id, time.Now()) {
		return
	}
	if _, elsewhere := m.cachedLocked(id); !elsewhere { // otherwise it has moved, and others hear of that
		m.flyLocked(id)
	}
}

// disown has e deleted, which names this process, if there is no session for it.
func (m *Member) disown(e Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Boot == m.boot && m.held[e.ID] == nil && m.gone[e.ID] == nil && len(m.gone) < maxCached {
		m.gone[e.ID] = []Entry{e}
		m.markLocked(e.ID)
	}
}

// flight is a lookup under way, for all that wait for it.
type flight struct {
	done   chan struct{}
	holder Holder // set before done is closed
	err    error
}

// flyLocked returns the lookup of id under way, which it begins if there is none; or nil
// if there are too many.
func (m *Member) flyLocked(id string) *flight {
	f := m.flights[id]
	if f == nil {
		if m.ended {
			return nil
		}
		wait, ok := m.limit.begin()
		if !ok {
			return nil
		}
		f = &flight{done: make(chan struct{})}
		m.flights[id] = f
		m.lookups.Go(func() { m.lookup(id, f, wait) })
	}
	return f
}

func (m *Member) lookup(id string, f *flight, wait time.Duration) {
	ctx, cancel := context.WithTimeout(m.looking, storeTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
	f.holder, f.err = m.ask(ctx, id)
	m.mu.Lock()
	delete(m.flights, id)
	m.mu.Unlock()
	m.limit.end()
	close(f.done)
}

// ask asks the directory for id.
func (m *Member) ask(ctx context.Context, id string) (Holder, error) {
	e, err := m.cfg.Directory.Get(ctx, id)
	switch {
	case errors.Is(err, ErrAbsent):
		return m.settle(ctx, id, "", "")
	case err != nil:
		return m.stale(id, errors.Join(ErrUnknown, err))
	case !m.cfg.Keys.CheckEntry(e):
		m.stats.forged.Add(1)
		return m.settle(ctx, id, "", "")
	case e.Node == m.cfg.Name:
		// Of a session that has just ended, or from before this node was restarted.
		m.disown(e)
		return m.settle(ctx, id, "", "")
	}
	m.mu.Lock()
	m.cacheEntryLocked(e)
	h, ok := m.cachedLocked(id)
	m.mu.Unlock()
	if ok {
		return h, nil
	}
	return m.settle(ctx, id, e.Node, e.Boot)
}

// settle finds out what it means that the directory has no node for id. The answer is
// believed only after a beat that began later: if the directory no longer knows this node,
// it has lost what it knew, and its answer means nothing. If it has named a process that
// this node does not know, the nodes are read as well.
func (m *Member) settle(ctx context.Context, id, node, boot string) (Holder, error) {
	m.mu.Lock()
	whole := m.wholeLocked()
	m.mu.Unlock()
	if !whole && node == "" {
		return m.stale(id, ErrUnknown)
	}
	c := m.beats.wait(node != "")
	m.beatSoon()
	select {
	case <-c.done:
	case <-ctx.Done():
		return m.stale(id, errors.Join(ErrUnknown, ctx.Err()))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.cachedLocked(id); ok {
		return h, nil // it has come meanwhile
	}
	if !c.ok || !m.wholeLocked() {
		return m.staleLocked(id, ErrUnknown)
	}
	if node != "" && !m.endedLocked(node, boot) {
		return Holder{}, ErrUnknown
	}
	if h, err := m.staleLocked(id, ErrAbsent); err == nil && h.Suspect {
		return h, nil // it could not announce again what the directory has lost
	}
	m.cache.putAbsent(id, time.Now().Add(absentLife))
	return Holder{}, ErrAbsent
}

// endedLocked reports whether a process is no more: it has said goodbye, or another one has
// its name now.
func (m *Member) endedLocked(node, boot string) bool {
	p := m.nodes[node]
	switch {
	case p == nil:
		return false
	case p.Boot == boot:
		return p.state == NodeGone
	}
	return !p.contested && (p.state == NodeUp || p.state == NodeDraining)
}

// stale returns what was known of id, or else err.
func (m *Member) stale(id string, err error) (Holder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.staleLocked(id, err)
}

func (m *Member) staleLocked(id string, err error) (Holder, error) {
	c, ok := m.cache.holder(id)
	if !ok || time.Now().After(c.until.Add(staleLife)) {
		return Holder{}, err
	}
	h, ok := m.holderLocked(c)
	if !ok {
		return Holder{}, err
	}
	return h, nil
}

// cachedLocked returns what is believed of id.
func (m *Member) cachedLocked(id string) (Holder, bool) {
	c, ok := m.cache.holder(id)
	if !ok || !time.Now().Before(c.until) {
		return Holder{}, false
	}
	return m.holderLocked(c)
}

// holderLocked returns the node of c. It reports false if that node is not known, has
// said goodbye, or is this one.
func (m *Member) holderLocked(c cached) (Holder, bool) {
	p := m.nodes[c.node]
	if p == nil || p.Name == m.cfg.Name || p.Boot != c.boot || p.state == NodeGone {
		return Holder{}, false
	}
	return Holder{Node: p.Node, Suspect: p.state == NodeSuspect, Gen: c.gen}, true
}

// cacheEntryLocked remembers e, which a node has signed, unless something newer is
// believed. A directory that may have lost entries may have put older ones in their place.
func (m *Member) cacheEntryLocked(e Entry) {
	now := time.Now()
	if c, ok := m.cache.holder(e.ID); ok && c.gen > e.Gen {
		if now.Before(c.until) || !m.wholeLocked() && now.Before(c.until.Add(staleLife)) {
			return
		}
	}
	node, boot := e.Node, e.Boot
	if p := m.nodes[e.Node]; p != nil && p.Boot == e.Boot {
		node, boot = p.Name, p.Boot // one copy for all entries
	}
	m.cache.put(e.ID, cached{node: node, boot: boot, gen: e.Gen, until: now.Add(cacheLife)})
}

// released is called when e has been deleted.
func (m *Member) released(e Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.cache.holder(e.ID); ok && c.gen == e.Gen {
		m.cache.forget(e.ID)
	}
}

// cache is what is known of ids that are served elsewhere, or nowhere.
type cache struct {
	ids    map[string]cached
	absent map[string]time.Time // until when that is believed
}

// cached says which process serves an id.
type cached struct {
	node, boot string
	gen        uint64
	until      time.Time // then the directory is asked again
}

const (
	// maxCached is how many holders are remembered, with some 250 bytes each.
	maxCached = 100_000

	// maxAbsent is how many absent ids there are before those that have run out are
	// removed. lookupsPerSecond bounds the others.
	maxAbsent = 4096
)

func (c *cache) init() {
	c.ids = make(map[string]cached)
	c.absent = make(map[string]time.Time)
}

func (c *cache) len() int         { return len(c.ids) }
func (c *cache) forget(id string) { delete(c.ids, id) }

func (c *cache) holder(id string) (cached, bool) {
	e, ok := c.ids[id]
	return e, ok
}

func (c *cache) put(id string, e cached) {
	delete(c.absent, id)
	if _, ok := c.ids[id]; !ok {
		id = strings.Clone(id) // it may be part of something long
		if len(c.ids) >= maxCached {
			for other := range c.ids { // any: maps have no order
				delete(c.ids, other)
				break
			}
		}
	}
	c.ids[id] = e
}

func (c *cache) isAbsent(id string, now time.Time) bool { return now.Before(c.absent[id]) }

func (c *cache) putAbsent(id string, until time.Time) {
	if len(c.absent) >= maxAbsent {
		now := time.Now()
		for other, t := range c.absent {
			if !now.Before(t) {
				delete(c.absent, other)
			}
		}
	}
	delete(c.ids, id)
	c.absent[strings.Clone(id)] = until
}

// lookupLimit bounds what lookups cost the directory.
type lookupLimit struct {
	rate  *rate.Limiter
	slots chan struct{}
}

func (l *lookupLimit) init() {
	l.rate = rate.NewLimiter(lookupsPerSecond, lookupsBurst)
	l.slots = make(chan struct{}, lookupsAtOnce)
}

// begin admits a lookup, which has to wait for that long, or reports false.
func (l *lookupLimit) begin() (wait time.Duration, ok bool) {
	select {
	case l.slots <- struct{}{}:
	default:
		return 0, false
	}
	r := l.rate.Reserve()
	if wait = r.Delay(); wait > lookupQueue {
		r.Cancel()
		<-l.slots
		return 0, false
	}
	return wait, true
}

func (l *lookupLimit) end() { <-l.slots }
