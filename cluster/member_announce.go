package cluster

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// touchEvery is how often an entry is put again, give or take a fifth: that is
	// 0.008 operations a second.
	touchEvery = 2 * time.Minute

	// touchesPerSecond is how many entries are put again in a second, unless all would
	// take longer than touchesWithin: after the directory was away, many are due at once.
	touchesPerSecond = 450
	touchesWithin    = 22 * time.Second

	// maxBatch is how many entries go to the directory at a time.
	maxBatch = 1024

	// freshClaim is how old a registration may be to count as newer than one that the
	// directory has had before, with a Gen from the future. After longer, the directory was
	// away, and Gen decides.
	freshClaim = 2 * time.Second

	tick = time.Second
)

// hold is an id that this node serves.
type hold struct {
	entry     Entry
	older     []Entry // of sessions before, which the directory may have
	since     time.Time
	offered   bool      // the directory may have entry
	announced bool      // the directory has had entry
	again     bool      // another node has claimed the id since entry was last sent
	due       time.Time // when to put entry again
}

// maxOlder is how many entries of one id are remembered. There are more than one only if
// sessions come and go while the directory does not answer.
const maxOlder = 4

// stored returns what the directory may have of h, oldest first.
func (h *hold) stored() []Entry {
	list := slices.Clone(h.older)
	if h.offered {
		list = append(list, h.entry)
	}
	if len(list) > maxOlder {
		list = slices.Delete(list, 1, 2) // the first is what the directory has had for sure
	}
	return list
}

// An Origin says which registration of which tunnel client's process a session comes
// of. The zero Origin is one of a client that has not said.
type Origin struct {
	Instance string
	Attempt  uint64
}

// Register says that this node serves id from now on. It does not wait for the
// directory. Each call counts as newer than all earlier ones.
func (m *Member) Register(id string, o Origin) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gen := uint64(m.clock().UnixMicro())
	older := m.gone[id]
	delete(m.gone, id)
	if h := m.held[id]; h != nil {
		gen = max(gen, h.entry.Gen+1)
		older = h.stored()
	}
	for _, e := range older {
		gen = max(gen, e.Gen+1)
	}
	if c, ok := m.cache.holder(id); ok {
		gen = max(gen, c.gen+1)
	}
	e := Entry{ID: id, Gen: gen, Node: m.cfg.Name, Boot: m.boot, Instance: o.Instance, Attempt: o.Attempt}
	m.cfg.Keys.SignEntry(&e)
	m.held[id] = &hold{entry: e, older: older, since: time.Now()}
	m.cache.forget(id)
	m.markLocked(id)
}

// Unregister says that this node no longer serves id. It does not wait for the
// directory.
func (m *Member) Unregister(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.held[id]
	if h == nil {
		return
	}
	delete(m.held, id)
	stored := h.stored()
	if len(stored) == 0 || len(m.gone) >= maxCached { // its entry runs out by itself
		delete(m.dirty, id)
		return
	}
	m.gone[id] = stored
	m.markLocked(id)
}

// Holds reports whether id has been registered, and since then neither unregistered nor
// superseded.
func (m *Member) Holds(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held[id] != nil
}

func (m *Member) markLocked(id string) {
	m.dirty[id] = struct{}{}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// announce puts and deletes entries. One goroutine does it, and one batch at a time, so
// that the changes of an id arrive in order; of several that wait, only the last is sent.
// The node's own record comes first: without it, others cannot tell what an entry means.
func (m *Member) announce(ctx context.Context) {
	select {
	case <-m.beaten:
	case <-ctx.Done():
		return
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	var marked time.Time
	markDue := func() {
		if time.Since(marked) > tick*9/10 { // not so if a tick had to wait
			marked = time.Now()
			m.markDue()
		}
	}
	pause := time.Duration(0)
	for ctx.Err() == nil {
		puts, deletes := m.batch()
		if len(puts)+len(deletes) == 0 {
			m.note(announcing, nil)
			select {
			case <-ctx.Done():
			case <-m.wake:
			case <-ticks.C:
				markDue()
			}
			continue
		}
		if err := errors.Join(m.delete(ctx, deletes), m.put(ctx, puts)); err != nil {
			pause = min(max(2*pause, 100*time.Millisecond), 2*time.Second)
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		} else {
			pause = 0
		}
		select {
		case <-ticks.C:
			markDue()
		default:
		}
	}
}

// markDue marks what has to be put again. What still waits from the last time counts too,
// so that a directory that answers again does not get everything at once.
func (m *Member) markDue() {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	most := max(touchesPerSecond, len(m.held)/int(touchesWithin/tick))
	var due []string
	for id, h := range m.held {
		if !h.announced || now.Before(h.due) {
			continue
		}
		if _, ok := m.dirty[id]; ok {
			most--
		} else if len(due) < most {
			due = append(due, id)
		}
	}
	for _, id := range due[:max(0, min(most, len(due)))] {
		m.dirty[id] = struct{}{}
	}
}

// batch returns what there is to say.
func (m *Member) batch() (puts, deletes []Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.dirty {
		if len(puts)+len(deletes) >= maxBatch {
			break
		}
		if h := m.held[id]; h != nil {
			h.offered, h.again = true, false
			puts = append(puts, h.entry)
		} else if stored := m.gone[id]; stored != nil {
			deletes = append(deletes, stored...)
		} else {
			delete(m.dirty, id)
		}
	}
	return puts, deletes
}

// delete deletes entries.
func (m *Member) delete(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err := m.cfg.Directory.Delete(op, entries)
	m.note(announcing, err)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		m.deletedLocked(e)
	}
	return nil
}

// put puts entries, and acts on the answers.
func (m *Member) put(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	op, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	outcomes, err := m.cfg.Directory.Put(op, entries)
	m.note(announcing, err)
	if len(outcomes) != len(entries) {
		return err
	}
	var wrong []Entry
	var superseded []string
	m.mu.Lock()
	for i, o := range outcomes {
		e := entries[i]
		h := m.held[e.ID]
		if o.Verdict == 0 {
			continue // not known
		}
		if h == nil || h.entry != e {
			// It has changed meanwhile, and is still dirty.
			if o.Verdict == Stored || o.Verdict == Kept {
				m.overtakenLocked(e)
			}
			continue
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
			wrong = append(wrong, before)
		case before.Node == m.cfg.Name && before.Boot == m.boot:
			wrong = append(wrong, before) // of an earlier session here, which has ended
		case o.Verdict == Behind && (h.newerThan(before) || m.clockAheadLocked(h, before)):
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
	return errors.Join(err, m.delete(ctx, wrong))
}

// overtakenLocked is called when e has been stored, whose session is no longer the last
// one of its id.
func (m *Member) overtakenLocked(e Entry) {
	if h := m.held[e.ID]; h != nil {
		h.older = []Entry{e}
	} else if m.gone[e.ID] != nil {
		m.gone[e.ID] = []Entry{e}
	}
}

// deletedLocked is called when the directory no longer has e.
func (m *Member) deletedLocked(e Entry) {
	stored := m.gone[e.ID]
	left := slices.DeleteFunc(slices.Clone(stored), func(other Entry) bool { return other == e })
	switch {
	case stored == nil: // there is another session, whose turn comes
	case len(left) > 0:
		m.gone[e.ID] = left
	default:
		delete(m.gone, e.ID)
		delete(m.dirty, e.ID)
	}
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
	h.announced, h.older = true, nil // it has replaced them
	h.due = time.Now().Add(touchEvery*4/5 + m.jitter(touchEvery*2/5))
	if !h.again {
		delete(m.dirty, id)
	}
}

// newerThan reports whether the client's process itself says that h is newer than e.
func (h *hold) newerThan(e Entry) bool {
	return h.entry.Instance != "" && h.entry.Instance == e.Instance && h.entry.Attempt > e.Attempt
}

// clockAheadLocked reports whether e, which the directory had before the claim of h, comes
// from a node whose clock is ahead of this one's: then its Gen is higher, though h is newer.
func (m *Member) clockAheadLocked(h *hold, e Entry) bool {
	return !h.announced && time.Since(h.since) < freshClaim && e.Gen > uint64(m.clock().UnixMicro())
}

// heard is called when e has been stored. If this node has a session for its id, the
// answer to another Put decides which one is newer: events can be late.
func (m *Member) heard(e Entry) {
	if e.Node == m.cfg.Name && e.Boot == m.boot {
		return
	}
	if !m.cfg.Keys.CheckEntry(e) {
		m.stats.forged.Add(1)
		return
	}
	m.mu.Lock()
	if h := m.held[e.ID]; h != nil {
		h.again = true
		m.markLocked(e.ID)
	} else {
		m.cacheEntryLocked(e)
	}
	m.mu.Unlock()
	if m.cfg.Changed != nil {
		m.cfg.Changed(e.ID)
	}
}
