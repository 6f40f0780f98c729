package faultnet

import (
	"fmt"
	"net"
	"slices"
	"sync"
)

// Link is one connection, as the code that injects faults sees it.
type Link struct {
	// Up goes from the end that dialled to the one that accepted, Down back.
	Up, Down *Direction

	// From is the address of the end that dialled, and SeenAs the one that the
	// accepted end sees: behind a Relay it is another.
	From, SeenAs net.Addr

	// Static after construction.
	onReset func()      // may be nil
	onEnd   func(*Link) // may be nil

	mu    sync.Mutex
	open  int // ends that are not closed
	ended bool
}

func newLink(o Options, n uint64, from, seenAs net.Addr) *Link {
	return &Link{
		From: from, SeenAs: seenAs,
		Up:   newDirection(o.Up, o.Seed, 2*n),
		Down: newDirection(o.Down, o.Seed, 2*n+1),
		open: 2,
	}
}

// Reset breaks the connection: both ends get ECONNRESET, and bytes under way
// is lost.
func (l *Link) Reset() {
	l.Up.reset()
	l.Down.reset()
	if l.onReset != nil {
		l.onReset()
	}
	l.end()
}

// HalfOpen makes the connection a black hole: nothing that one end sends, or
// that it closes, reaches the other. Resume on both directions ends that.
func (l *Link) HalfOpen() {
	l.Up.Stall()
	l.Down.Stall()
}

// endClosed is called once for each end that is closed.
func (l *Link) endClosed() {
	l.mu.Lock()
	l.open--
	open := l.open
	l.mu.Unlock()
	if open == 0 {
		l.end()
	}
}

func (l *Link) end() {
	l.mu.Lock()
	first := !l.ended
	l.ended = true
	l.mu.Unlock()
	if first && l.onEnd != nil {
		l.onEnd(l)
	}
}

// Options are for the links of a [Listener] or a [Relay].
type Options struct {
	// Seed of all that is random.
	Seed uint64

	// Up and Down are the faults that links begin with.
	Up, Down Faults
}

// links are the live links of a Listener or a Relay.
type links struct {
	mu      sync.Mutex
	opts    Options
	n       uint64 // of links so far
	live    []*Link
	refuses bool
}

// add returns a new link, or nil if new ones are refused. Nil addresses
// stand for one that no other link has.
func (s *links) add(from, seenAs net.Addr, onReset func()) *Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses {
		return nil
	}
	if from == nil {
		seenAs = Addr(fmt.Sprintf("198.51.100.%d:%d", 1+s.n>>16&0x7f, s.n&0xffff))
		from = seenAs
	}
	l := newLink(s.opts, s.n, from, seenAs)
	l.onReset, l.onEnd = onReset, s.remove
	s.n++
	s.live = append(s.live, l)
	return l
}

func (s *links) remove(l *Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.live, l); i >= 0 {
		s.live = slices.Delete(s.live, i, i+1)
	}
}

// Links returns the live links, the oldest first.
func (s *links) Links() []*Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.live)
}

// ResetAll resets all live links.
func (s *links) ResetAll() {
	for _, l := range s.Links() {
		l.Reset()
	}
}

// SetFaults changes what new links begin with.
func (s *links) SetFaults(up, down Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Up, s.opts.Down = up, down
}

// Refuse says whether new connections are refused.
func (s *links) Refuse(refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = refuse
}

func (s *links) refusing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuses
}
