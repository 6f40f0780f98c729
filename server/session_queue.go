package server

import (
	"net/netip"
	"sync"
)

// maxWaiting is how many requests may wait for a slot of one tunnel. Each holds
// a viewer's connection and its goroutines. It is less than one address may
// have connections, which is why fairQueue makes room for others.
const maxWaiting = 1000

// fairQueue admits a bounded number of requests at a time. While slots are free
// a request gets one at once. Otherwise it waits. Slots that become free go to the
// waiting addresses in turn, and within an address to the request that came first:
// an address with a thousand requests delays another's only request by no more
// than one of its own.
//
// Addresses share the queue, not the slots themselves: a load balancer is one
// address, and a slot is never taken back.
type fairQueue struct {
	mu      sync.Mutex
	slots   int // in all
	free    int // negative: more are taken than there may be
	limit   int // of waiting
	waiting int
	turns   []*waitingClass // the addresses with waiters, the next one first
	classes map[netip.Addr]*waitingClass
}

// waitingClass is the requests of one address that wait, first come first.
type waitingClass struct {
	addr    netip.Addr
	waiters []*waiter
}

// waiter is a request that waits for a slot.
type waiter struct {
	class *waitingClass

	// ready receives one value when the wait is over: nil, which is a slot, or
	// errBusy, if the waiter had to make room for one of another address.
	ready chan error
}

func newFairQueue(slots, limit int) *fairQueue {
	return &fairQueue{slots: slots, free: slots, limit: limit, classes: make(map[netip.Addr]*waitingClass)}
}

// enter takes a slot. If there is none it takes a place in the queue and returns a
// waiter: a receive from its ready, or a call of leave, has to follow. It returns
// errBusy if the queue is full too.
func (q *fairQueue) enter(addr netip.Addr) (*waiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.free > 0 { // nobody waits then
		q.free--
		return nil, nil
	}
	c := q.classes[addr]
	if q.waiting >= q.limit && !q.makeRoomLocked(c) {
		return nil, errBusy
	}
	if c == nil {
		c = &waitingClass{addr: addr}
		q.classes[addr] = c
		q.turns = append(q.turns, c)
	}
	w := &waiter{class: c, ready: make(chan error, 1)}
	c.waiters = append(c.waiters, w)
	q.waiting++
	return w, nil
}

// makeRoomLocked sends away the last waiter of the address with the most, unless
// c, which needs the room, would then have as many.
func (q *fairQueue) makeRoomLocked(c *waitingClass) bool {
	own := 0
	if c != nil {
		own = len(c.waiters)
	}
	var most *waitingClass
	for _, t := range q.turns {
		if most == nil || len(t.waiters) > len(most.waiters) {
			most = t
		}
	}
	if most == nil || len(most.waiters) <= own+1 {
		return false
	}
	last := len(most.waiters) - 1
	w := most.waiters[last]
	most.waiters[last] = nil
	most.waiters = most.waiters[:last]
	q.waiting--
	w.ready <- errBusy
	return true
}

// leave ends the wait of w. If w has a slot by now, that goes to the next.
func (q *fairQueue) leave(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case err := <-w.ready:
		if err == nil {
			q.releaseLocked()
		}
		return
	default:
	}
	c := w.class
	for i, other := range c.waiters {
		if other == w {
			c.waiters = append(c.waiters[:i], c.waiters[i+1:]...)
			q.waiting--
			break
		}
	}
	if len(c.waiters) == 0 {
		q.forgetLocked(c)
	}
}

// release gives back a slot.
func (q *fairQueue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.releaseLocked()
}

// resize makes the number of slots what slots returns. That is called with the lock
// held, so that of two calls at a time the later word counts. Slots that are taken
// stay with those who have them.
func (q *fairQueue) resize(slots func() int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := slots()
	q.free += n - q.slots
	q.slots = n
	for q.free > 0 && len(q.turns) > 0 {
		q.free--
		q.grantLocked()
	}
}

func (q *fairQueue) releaseLocked() {
	if q.free < 0 || len(q.turns) == 0 {
		q.free++
		return
	}
	q.grantLocked()
}

// grantLocked gives a slot to the next waiter. There is one.
func (q *fairQueue) grantLocked() {
	c := q.turns[0]
	w := c.waiters[0]
	c.waiters[0] = nil
	c.waiters = c.waiters[1:]
	q.waiting--
	if len(c.waiters) == 0 {
		q.forgetLocked(c)
	} else {
		q.turns = append(q.turns[1:], c) // behind the others
	}
	w.ready <- nil
}

// load returns how many slots there are, and how many requests wait for one.
func (q *fairQueue) load() (slots, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.slots, q.waiting
}

// forgetLocked drops a class without waiters.
func (q *fairQueue) forgetLocked(c *waitingClass) {
	delete(q.classes, c.addr)
	for i, t := range q.turns {
		if t == c {
			q.turns = append(q.turns[:i], q.turns[i+1:]...)
			return
		}
	}
}
