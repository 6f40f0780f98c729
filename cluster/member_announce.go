package cluster

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// touchEvery is how often an entry is put again, give or take a fifth: a quarter
	// of a hundredth of an operation a second.
	touchEvery = 2 * time.Minute

	// maxBatch is how many entries go to the directory at a time.
	maxBatch = 1024

	// freshClaim is how old a registration may be to count as newer than one that the
	// directory knows and that has a higher Gen: clocks differ by less than it. After
	// longer, the directory was away, and Gen decides.
	freshClaim = 5 * time.Second

	tick = time.Second
)

// hold is an id that this node serves.
type hold struct {
	entry     Entry
	since     time.Time
	announced bool      // the directory has had it
	due       time.Time // when to put it again
}

// An Origin says which registration of which tunnel client's process a session comes
// of. The zero Origin is one of a client that has not said.
type Origin struct {
	Instance string
	Attempt  uint64
}

// Register says that this node serves id from now on. It does not wait for the
// directory. Each call is newer than all before.
func (m *Member) Register(id string, o Origin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gen := uint64(time.Now().UnixMicro())
	if h := m.held[id]; h != nil {
		gen = max(gen, h.entry.Gen+1)
	}
	if e, ok := m.gone[id]; ok {
		gen = max(gen, e.Gen+1)
	}
	if c, ok := m.cache.get(id); ok {
		gen = max(gen, c.gen+1)
	}
	e := Entry{ID: id, Gen: gen, Node: m.cfg.Name, Boot: m.boot, Instance: o.Instance, Attempt: o.Attempt}
	m.cfg.Keys.SignEntry(&e)
	m.held[id] = &hold{entry: e, since: time.Now()}
	m.cache.forget(id)
	m.markLocked(id)
}

// Unregister says that this node does not serve id any more.
func (m *Member) Unregister(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.held[id]; h != nil {
		m.letGoLocked(id, h)
	}
}

func (m *Member) letGoLocked(id string, h *hold) {
	delete(m.held, id)
	if len(m.gone) < maxCached { // the others run out
		m.gone[id] = h.entry
	}
	m.markLocked(id)
}

func (m *Member) markLocked(id string) {
	m.dirty[id] = struct{}{}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// announce puts and deletes entries. There is one goroutine for it, and one batch at a
// time, so that what is said of an id arrives in order; and it says the last only.
func (m *Member) announce(ctx context.Context) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	pause := time.Duration(0)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-ticks.C:
			m.markDue()
		}
		for ctx.Err() == nil {
			puts, deletes := m.batch()
			if len(puts)+len(deletes) == 0 {
				break
			}
			if err := m.flush(ctx, puts, deletes); err != nil {
				pause = min(max(2*pause, 100*time.Millisecond), 2*time.Second)
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
				continue
			}
			pause = 0
		}
	}
}

func (m *Member) markDue() {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, h := range m.held {
		if h.announced && !now.Before(h.due) {
			m.dirty[id] = struct{}{}
		}
	}
}

// batch returns what there is to say.
func (m *Member) batch() (puts, deletes []Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.dirty {
		if len(puts)+len(deletes) == maxBatch {
			break
		}
		if h := m.held[id]; h != nil {
			puts = append(puts, h.entry)
			delete(m.gone, id)
		} else if e, ok := m.gone[id]; ok {
			deletes = append(deletes, e)
		} else {
			delete(m.dirty, id)
		}
	}
	return puts, deletes
}

// flush says it, and judges the answers.
func (m *Member) flush(ctx context.Context, puts, deletes []Entry) error {
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if len(deletes) > 0 {
		err := m.cfg.Directory.Delete(op, deletes)
		m.noteStore(err)
		if err != nil {
			return err
		}
		m.mu.Lock()
		for _, e := range deletes {
			if m.gone[e.ID] == e {
				delete(m.gone, e.ID)
			}
			if m.held[e.ID] == nil {
				delete(m.dirty, e.ID)
			}
		}
		m.mu.Unlock()
	}
	if len(puts) == 0 {
		return nil
	}
	outcomes, err := m.cfg.Directory.Put(op, puts)
	m.noteStore(err)
	if err != nil {
		return err
	}
	var forged []Entry
	var superseded []string
	m.mu.Lock()
	for i, o := range outcomes {
		e := puts[i]
		h := m.held[e.ID]
		if h == nil || h.entry != e {
			continue // it has changed meanwhile, and is still dirty
		}
		switch before := o.Before; {
		case o.Verdict == Stored || o.Verdict == Kept:
			if !h.announced {
				m.stats.claims.Add(1)
			} else if o.Verdict == Stored {
				m.stats.restored.Add(1)
			}
			m.announcedLocked(e.ID, h)
		case !m.cfg.Keys.CheckEntry(before):
			m.stats.forged.Add(1)
			forged = append(forged, before)
		case o.Verdict == Behind && (h.newerThan(before) || !h.announced && time.Since(h.since) < freshClaim):
			h.entry.Gen = before.Gen + 1
			m.cfg.Keys.SignEntry(&h.entry)
		default:
			superseded = append(superseded, e.ID)
			m.stats.superseded.Add(1)
			delete(m.held, e.ID)
			delete(m.dirty, e.ID)
			m.cacheEntryLocked(before)
		}
	}
	m.mu.Unlock()
	m.tellSuperseded(superseded...)
	if len(forged) == 0 {
		return nil
	}
	err = m.cfg.Directory.Delete(op, forged)
	m.noteStore(err)
	return err
}

func (m *Member) tellSuperseded(ids ...string) {
	if m.cfg.Superseded == nil {
		return
	}
	for _, id := range ids {
		m.cfg.Superseded(id)
	}
}

func (m *Member) announcedLocked(id string, h *hold) {
	h.announced = true
	h.due = time.Now().Add(touchEvery*4/5 + rand.N(touchEvery*2/5))
	delete(m.dirty, id)
}

// newerThan reports whether the client's process itself says that h is newer than e.
func (h *hold) newerThan(e Entry) bool {
	return h.entry.Instance != "" && h.entry.Instance == e.Instance && h.entry.Attempt > e.Attempt
}

// heard is told that e has been stored.
func (m *Member) heard(e Entry) {
	if e.Node == m.cfg.Name && e.Boot == m.boot {
		return
	}
	if !m.cfg.Keys.CheckEntry(e) {
		m.stats.forged.Add(1)
		return
	}
	m.mu.Lock()
	h := m.held[e.ID]
	superseded := false
	switch {
	case h == nil:
		m.cacheEntryLocked(e)
	case !h.announced: // the answer to its claim decides
	case h.newerThan(e) || h.entry.Gen > e.Gen:
		m.markLocked(e.ID)
	default:
		superseded = true
		m.stats.superseded.Add(1)
		delete(m.held, e.ID)
		delete(m.dirty, e.ID)
		m.cacheEntryLocked(e)
	}
	m.mu.Unlock()
	if superseded {
		m.tellSuperseded(e.ID)
	}
	if m.cfg.Changed != nil {
		m.cfg.Changed(e.ID)
	}
}
