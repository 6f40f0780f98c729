package budget

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Times of the relief.
const (
	// patience is how long something may keep bytes waiting before it can be cut for
	// others. A peer that takes a little within that time behaves.
	patience = time.Second

	// interval is how often a limit that is exceeded is looked at, and pause how
	// often at most: looking at thousands of holdings takes milliseconds.
	interval = 100 * time.Millisecond
	pause    = 50 * time.Millisecond

	// maxReserve is the reserve of an account at most, in bytes.
	maxReserve = 16 << 20
)

var (
	// ErrPeer means that the account has reached its limit: the peer holds as much
	// as one may.
	ErrPeer = errors.New("budget: the peer's share of memory is used up")

	// ErrFull means that all peers together have reached the limit.
	ErrFull = errors.New("budget: memory is used up")
)

// Budget is what all peers may hold together. Make one with [New].
type Budget struct {
	limit int64 // 0: none
	held  atomic.Int64
	begun time.Time

	wake chan struct{} // capacity 1: a limit has been exceeded
	stop chan struct{}
	done sync.WaitGroup

	waiters atomic.Int32 // in Room

	mu       sync.Mutex
	started  bool
	closed   bool
	accounts map[any]*account
	others   account       // has the holdings without an account of their own
	eased    chan struct{} // closed and replaced when there may be room again
}

// New returns a Budget of limit bytes. With 0 or less it keeps account and
// bounds nothing, whatever limits its accounts have. It starts nothing before
// a limit is exceeded; Close ends what it has started.
func New(limit int64) *Budget {
	return &Budget{
		limit:    max(limit, 0),
		begun:    time.Now(),
		wake:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
		accounts: make(map[any]*account),
		eased:    make(chan struct{}),
	}
}

// now returns the time since the beginning.
func (b *Budget) now() time.Duration { return time.Since(b.begun) }

// Held returns how many bytes all holdings hold.
func (b *Budget) Held() int64 { return b.held.Load() }

// Close ends the Budget. Readers that wait for room go on; nothing is cut any more.
func (b *Budget) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.stop)
	}
	b.easedLocked()
	b.mu.Unlock()
	b.done.Wait()
}

// account is what one peer may hold. It exists while there are holdings of it.
type account struct {
	key      any
	limit    int64 // 0: none
	held     atomic.Int64
	holdings []*Holding // guarded by Budget.mu
}

// HeldBy returns how many bytes the holdings of the account of key hold.
func (b *Budget) HeldBy(key any) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.accounts[key]; a != nil {
		return a.held.Load()
	}
	return 0
}

// Holding is one thing that holds memory for a peer. Its methods may be called
// from any goroutine. After Release they change nothing.
type Holding struct {
	budget  *Budget
	account *account
	at      int // in account.holdings; guarded by Budget.mu
	cut     func()

	bytes  atomic.Int64
	pinned atomic.Int64
	isCut  atomic.Bool

	waits waiting

	mu       sync.Mutex
	released bool
}

// Hold returns a Holding, of nothing yet, that is charged to the Budget and to the
// account of key: nil is none, and keys of different types are different. The account
// has a limit in bytes (0: none), which counts if no holding has that account yet.
// Release has to follow. cut, in a goroutine of the Budget, must make what holds the
// memory end soon, and must not block; nil means that it cannot be cut.
func (b *Budget) Hold(cut func(), key any, limit int64) *Holding {
	h := &Holding{budget: b, account: &b.others, cut: cut}
	b.mu.Lock()
	defer b.mu.Unlock()
	if key != nil {
		if h.account = b.accounts[key]; h.account == nil {
			h.account = &account{key: key, limit: limit}
			b.accounts[key] = h.account
		}
	}
	a := h.account
	h.at = len(a.holdings)
	a.holdings = append(a.holdings, h)
	return h
}

// forgetLocked takes h out of its account.
func (b *Budget) forgetLocked(h *Holding) {
	a := h.account
	last := len(a.holdings) - 1
	a.holdings[h.at] = a.holdings[last]
	a.holdings[h.at].at = h.at
	a.holdings[last] = nil
	a.holdings = a.holdings[:last]
	if last == 0 && a != &b.others {
		delete(b.accounts, a.key)
	}
}

// Admit charges n bytes for something new, or returns ErrPeer or ErrFull and
// charges nothing.
func (h *Holding) Admit(n int64) error { return h.admit(n, 0) }

// AdmitReserved is Admit with limits that are larger by one part of so many, that of the
// account by maxReserve at most: a reserve for what has to pass all the same.
func (h *Holding) AdmitReserved(n, part int64) error { return h.admit(n, part) }

func (h *Holding) admit(n, part int64) error {
	b := h.budget
	fits := func(held, limit, most int64) bool {
		if part > 0 {
			limit += min(limit/part, most)
		}
		return limit == 0 || held+n <= limit
	}
	if b.limit > 0 {
		if a := h.account; !fits(a.held.Load(), a.limit, maxReserve) {
			b.relieve() // so that there is room for the next
			return ErrPeer
		}
		if !fits(b.held.Load(), b.limit, math.MaxInt64) {
			b.relieve()
			return ErrFull
		}
	}
	h.add(n)
	return nil
}

// Add charges n bytes for what has come already; a negative n is what has gone,
// which counts as movement.
func (h *Holding) Add(n int64) {
	h.add(n)
	switch {
	case n < 0:
		h.Moved()
		h.budget.ease()
	case h.Crowded():
		h.budget.relieve()
	}
}

func (h *Holding) add(n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.released {
		h.addLocked(n)
	}
}

func (h *Holding) addLocked(n int64) {
	h.bytes.Add(n)
	h.budget.held.Add(n)
	h.account.held.Add(n)
}

// Bytes returns how much h holds.
func (h *Holding) Bytes() int64 { return h.bytes.Load() }

// Pins says that n bytes, which another holding is charged for, wait because of
// h and would go with it: h counts as if it held them when it is judged.
func (h *Holding) Pins(n int64) { h.pinned.Store(n) }

// Wait says that bytes wait for the peer from now on, until Done has been called
// as often as Wait. Moved, or a negative Add, begins the time anew.
func (h *Holding) Wait() { h.waits.begin(h.budget.now) }

// Wait is Wait for each of hs that is not nil. All are of one Budget.
func Wait(hs ...*Holding) {
	at := time.Duration(-1)
	for _, h := range hs {
		if h != nil {
			h.waits.begin(func() time.Duration {
				if at < 0 {
					at = h.budget.now()
				}
				return at
			})
		}
	}
}

// Done is the counterpart of Wait. Without one it does nothing.
func (h *Holding) Done() { h.waits.end() }

// Moved says that the peer has taken or sent something.
func (h *Holding) Moved() { h.waits.moved(h.budget.now) }

// Crowded reports whether a limit that h counts for is exceeded.
func (h *Holding) Crowded() bool {
	if h.budget.limit == 0 {
		return false
	}
	a := h.account
	return h.budget.held.Load() > h.budget.limit || a.limit > 0 && a.held.Load() > a.limit
}

// Room waits while a limit that h counts for is exceeded, until done is closed. A
// reader calls it before it reads more from a peer, so that no more comes than there
// is room for.
func (h *Holding) Room(done <-chan struct{}) {
	b := h.budget
	if !h.Crowded() {
		return
	}
	b.waiters.Add(1)
	defer b.waiters.Add(-1)
	for {
		b.mu.Lock()
		eased, closed := b.eased, b.closed
		b.mu.Unlock()
		if closed || !h.Crowded() {
			return
		}
		b.relieve()
		select {
		case <-eased:
		case <-done:
			return
		}
	}
}

// Release gives back what h holds. It may be called more than once.
func (h *Holding) Release() {
	h.mu.Lock()
	again := h.released
	h.released = true
	h.waits.reset()
	h.addLocked(-h.bytes.Load())
	h.mu.Unlock()
	if again {
		return
	}
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forgetLocked(h)
	b.easedLocked()
}

// ease lets those look again who wait for room.
func (b *Budget) ease() {
	if b.waiters.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.easedLocked()
}

func (b *Budget) easedLocked() {
	if b.waiters.Load() > 0 {
		close(b.eased)
		b.eased = make(chan struct{})
	}
}

// relieve has the limits looked at soon.
func (b *Budget) relieve() {
	select {
	case b.wake <- struct{}{}:
	default:
		return // somebody has asked already
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.started && !b.closed {
		b.started = true
		b.done.Go(b.run)
	}
}

// run looks at the limits while one is exceeded.
func (b *Budget) run() {
	t := time.NewTimer(interval)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-b.wake:
		case <-t.C:
		}
		if b.cutWorst() {
			t.Reset(interval)
		}
		select {
		case <-b.stop:
			return
		case <-time.After(pause):
		}
	}
}

// lowWater is how much of a limit may be held when all that could be cut is gone:
// there is to be room for what is new.
func lowWater(limit int64) int64 { return limit - limit/16 }

// cutWorst cuts what has to go so that there is room, and reports whether there was
// too little.
func (b *Budget) cutWorst() (exceeded bool) {
	now := b.now()
	excess := func(held *atomic.Int64, limit int64) int64 {
		if limit == 0 {
			return 0
		}
		return max(0, held.Load()-lowWater(limit))
	}
	type crowd struct {
		holdings []*Holding
		excess   int64
	}
	var crowds []crowd
	b.mu.Lock() // which all requests take: copies only
	for _, a := range b.accounts {
		if n := excess(&a.held, a.limit); n > 0 {
			crowds = append(crowds, crowd{slices.Clone(a.holdings), n})
		}
	}
	if n := excess(&b.held, b.limit); n > 0 {
		all := slices.Clone(b.others.holdings)
		for _, a := range b.accounts {
			all = append(all, a.holdings...)
		}
		crowds = append(crowds, crowd{all, n})
	}
	b.mu.Unlock()
	for _, c := range crowds {
		for _, cut := range worst(c.holdings, c.excess, now) {
			cut()
		}
	}
	return len(crowds) > 0
}

// worst returns the cuts of the holdings that hold most and have moved least,
// for excess bytes together and a tenth more.
func worst(holdings []*Holding, excess int64, now time.Duration) []func() {
	type candidate struct {
		h     *Holding
		bytes int64
		score float64
	}
	var list []candidate
	for _, h := range holdings {
		idle := h.waits.idle(now)
		if idle == 0 || h.cut == nil {
			continue
		}
		if h.isCut.Load() {
			excess -= h.bytes.Load() + h.pinned.Load() // it is about to go
			continue
		}
		if idle >= patience {
			n := h.bytes.Load() + h.pinned.Load()
			list = append(list, candidate{h, n, float64(n) * idle.Seconds()})
		}
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	var cuts []func()
	for left := excess + excess/10; left > 0 && len(list) > 0; list = list[1:] {
		h := list[0].h
		if !h.isCut.Swap(true) {
			left -= list[0].bytes
			cuts = append(cuts, h.cut)
		}
	}
	return cuts
}
