package cluster

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"
)

const (
	lookupTimeout = 250 * time.Millisecond

	// What is known of an id is believed for this long, though events may be lost; and
	// for staleLife while the directory does not answer: a wrong node says so.
	cacheLife  = 30 * time.Second
	absentLife = time.Second
	staleLife  = 10 * time.Minute

	// The directory's load is bounded by these, and not by viewers.
	lookupsPerSecond = 900
	lookupsAtOnce    = 256

	// Lookups that find nothing share a beat, which confirms them. So many a second
	// there are at most.
	confirmGap = 50 * time.Millisecond
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
// if there is none, and otherwise wraps ErrUnknown.
func (m *Member) Find(ctx context.Context, id string) (Holder, error) {
	m.stats.lookups.Add(1)
	m.mu.Lock()
	if c, ok := m.cache.get(id); ok {
		switch now := time.Now(); {
		case c.absent() && now.Before(c.until) && m.wholeLocked():
			m.mu.Unlock()
			m.stats.cached.Add(1)
			return Holder{}, ErrAbsent
		case c.absent():
		case now.Before(c.until) || m.trouble && now.Before(c.until.Add(staleLife)):
			h, ok := m.holderLocked(c)
			if ok {
				if c.until.Sub(now) < cacheLife/3 && !m.trouble {
					m.flyLocked(ctx, id, storeTimeout) // so that it is there when the store is slow
				}
				m.mu.Unlock()
				m.stats.cached.Add(1)
				return h, nil
			}
		}
	}
	f := m.flyLocked(ctx, id, lookupTimeout)
	m.mu.Unlock()
	if f == nil {
		m.stats.limited.Add(1)
		return Holder{}, ErrUnknown
	}
	select {
	case <-f.done:
		return f.holder, f.err
	case <-ctx.Done():
		return Holder{}, ctx.Err()
	}
}

// Doubt says that the node of h does not serve id: what is known of it is forgotten.
func (m *Member) Doubt(id string, h Holder) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.cache.get(id); ok && c.gen == h.Gen {
		m.cache.forget(id)
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
func (m *Member) flyLocked(ctx context.Context, id string, limit time.Duration) *flight {
	f := m.flights[id]
	if f == nil {
		if !m.limit.allow() {
			return nil
		}
		f = &flight{done: make(chan struct{})}
		m.flights[id] = f
		go m.lookup(context.WithoutCancel(ctx), id, limit, f)
	}
	return f
}

func (m *Member) lookup(ctx context.Context, id string, limit time.Duration, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	f.holder, f.err = m.ask(ctx, id)
	switch {
	case errors.Is(f.err, ErrAbsent):
		m.stats.absent.Add(1)
	case f.err != nil:
		m.stats.unknown.Add(1)
	}
	m.mu.Lock()
	delete(m.flights, id)
	m.mu.Unlock()
	m.limit.done()
	close(f.done)
}

// ask asks the directory for id.
func (m *Member) ask(ctx context.Context, id string) (Holder, error) {
	e, err := m.cfg.Directory.Get(ctx, id)
	if err == nil && !m.cfg.Keys.CheckEntry(e) {
		m.stats.forged.Add(1)
		err = ErrAbsent
	}
	switch {
	case errors.Is(err, ErrAbsent):
		return Holder{}, m.confirmAbsent(ctx, id)
	case err != nil:
		return m.stale(id, errors.Join(ErrUnknown, err))
	case e.Node == m.cfg.Name:
		// Of a session that has just ended, or from before this node was restarted.
		return Holder{}, ErrAbsent
	}
	for asked := false; ; asked = true {
		m.mu.Lock()
		m.cacheEntryLocked(e)
		c, _ := m.cache.get(id)
		h, ok := m.holderLocked(c)
		_, seen := m.nodes[c.node]
		m.mu.Unlock()
		switch {
		case ok:
			return h, nil
		case asked && seen:
			return Holder{}, ErrAbsent // the process that had it is no more: another has its name
		case asked:
			return Holder{}, ErrUnknown
		}
		if err := m.refreshNodes(ctx); err != nil {
			return m.stale(id, errors.Join(ErrUnknown, err))
		}
	}
}

// stale returns what was known of id, or else err.
func (m *Member) stale(id string, err error) (Holder, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.cache.get(id)
	if !ok || c.absent() || time.Now().After(c.until.Add(staleLife)) {
		return Holder{}, err
	}
	h, ok := m.holderLocked(c)
	if !ok {
		return Holder{}, err
	}
	return h, nil
}

// confirmAbsent returns ErrAbsent if the directory still knows this node: otherwise it
// has lost what it knew, and says nothing about id.
func (m *Member) confirmAbsent(ctx context.Context, id string) error {
	m.mu.Lock()
	whole := m.wholeLocked()
	m.mu.Unlock()
	if !whole {
		return ErrUnknown
	}
	c := m.beats.wait()
	m.limit.confirm(m.beatSoon)
	select {
	case <-c.done:
	case <-ctx.Done():
		return ErrUnknown
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !c.ok || !m.wholeLocked() {
		return ErrUnknown
	}
	if _, ok := m.cache.get(id); !ok {
		m.cache.put(id, cached{until: time.Now().Add(absentLife)})
	}
	return ErrAbsent
}

// holderLocked returns the node of c, which is not absent. It reports false if that node
// is not known, or is this one.
func (m *Member) holderLocked(c cached) (Holder, bool) {
	p := m.nodes[c.node]
	if p == nil || p.Name == m.cfg.Name || p.Boot != c.boot {
		return Holder{}, false
	}
	return Holder{Node: p.Node, Suspect: p.state == NodeSuspect, Gen: c.gen}, true
}

// cacheEntryLocked remembers e, which a node has signed, unless something newer is known.
func (m *Member) cacheEntryLocked(e Entry) {
	if c, ok := m.cache.get(e.ID); ok && c.gen > e.Gen {
		return
	}
	node, boot := e.Node, e.Boot
	if p := m.nodes[e.Node]; p != nil && p.Boot == e.Boot {
		node, boot = p.Name, p.Boot // one copy for all entries
	}
	m.cache.put(e.ID, cached{node: node, boot: boot, gen: e.Gen, until: time.Now().Add(cacheLife)})
}

// released is told that e has been deleted.
func (m *Member) released(e Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.cache.get(e.ID); ok && c.gen == e.Gen {
		m.cache.forget(e.ID)
	}
}

// cache is what is known of ids that are served elsewhere, or nowhere.
type cache struct{ ids map[string]cached }

type cached struct {
	node, boot string // empty: nowhere
	gen        uint64
	until      time.Time
}

func (c cached) absent() bool { return c.node == "" }

// maxCached is how many ids are remembered, with some 250 bytes each.
const maxCached = 100_000

func (c *cache) init()            { c.ids = make(map[string]cached) }
func (c *cache) len() int         { return len(c.ids) }
func (c *cache) forget(id string) { delete(c.ids, id) }

func (c *cache) get(id string) (cached, bool) {
	e, ok := c.ids[id]
	return e, ok
}

func (c *cache) put(id string, e cached) {
	if _, ok := c.ids[id]; !ok && len(c.ids) >= maxCached {
		for other := range c.ids { // any: maps have no order
			delete(c.ids, other)
			break
		}
	}
	c.ids[id] = e
}

func (c *cache) forgetAbsent() {
	for id, e := range c.ids {
		if e.absent() {
			delete(c.ids, id)
		}
	}
}

// lookupLimit bounds what lookups cost the directory.
type lookupLimit struct {
	rate     *rate.Limiter
	confirms *rate.Limiter
	slots    chan struct{}
}

func (l *lookupLimit) init() {
	l.rate = rate.NewLimiter(lookupsPerSecond, lookupsPerSecond/10)
	l.confirms = rate.NewLimiter(rate.Every(confirmGap), 1)
	l.slots = make(chan struct{}, lookupsAtOnce)
}

func (l *lookupLimit) allow() bool {
	select {
	case l.slots <- struct{}{}:
	default:
		return false
	}
	if !l.rate.Allow() {
		<-l.slots
		return false
	}
	return true
}

func (l *lookupLimit) done() { <-l.slots }

// confirm calls f, now or when the last call is confirmGap old. Of calls that wait, one
// is made.
func (l *lookupLimit) confirm(f func()) {
	r := l.confirms.Reserve()
	if d := r.Delay(); d > confirmGap {
		r.Cancel() // one is on its way already
	} else if d > 0 {
		time.AfterFunc(d, f)
	} else {
		f()
	}
}
