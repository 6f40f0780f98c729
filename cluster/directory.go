package cluster

import (
	"context"
	"errors"
	"time"
)

// A Directory tells the nodes of a cluster which of them serves an id. It is a
// hint, never the truth: the truth is the session on a node. Nothing that a
// Directory does, or fails to do, ends a session or fails a request that a node
// can serve by itself.
//
// A Directory keeps what it is given and does not judge it: entries and nodes are
// signed, and whoever reads them checks that (see [Keys]). All its methods may be
// called from any goroutine, and block no longer than their context lasts.
//
// There are two: [Memory] and package redisdir. Package directorytest has the
// tests that each of them has to pass.
type Directory interface {
	// Put offers entries, each for its own id, and returns what has become of each,
	// in the same order. Many take a few round trips, where the store can do
	// that. An entry that is stored, or is kept, lives for another EntryLife.
	// The error is the store's. Some of the entries may be stored then: the outcomes that
	// are known are returned, and the others are zero, or there are none at all.
	Put(ctx context.Context, entries []Entry) ([]Outcome, error)

	// Delete deletes those entries that are still stored exactly as given: it never
	// takes away what another session has put there.
	Delete(ctx context.Context, entries []Entry) error

	// Get returns the entry of id, or ErrAbsent if there is none. Any other error
	// means that it is not known.
	Get(ctx context.Context, id string) (Entry, error)

	// Beat stores n for NodeLife. It reports whether the store still had the node
	// with the same boot: if not, at any call but the first, the store has lost it,
	// and all else perhaps.
	Beat(ctx context.Context, n Node) (known bool, err error)

	// Leave deletes n, if it is stored with the same boot.
	Leave(ctx context.Context, n Node) error

	// Nodes returns the nodes that are there, in no particular order.
	Nodes(ctx context.Context) ([]Node, error)

	// Watch calls f with what happens, one call after the other, until ctx ends or
	// the connection to the store is lost, and returns why. The first event is
	// EventResync, as soon as nothing that follows can be missed. Of one id, and of
	// one node, the events come in the order in which they happened; some from just
	// before EventResync may come after it. f must not block.
	Watch(ctx context.Context, f func(Event)) error

	// Close ends what the Directory has begun.
	Close() error
}

// How long what is stored lives without being written again. One key for a node
// says that it is alive, and with it all of its ids: so entries may live long.
const (
	EntryLife = 10 * time.Minute
	NodeLife  = 10 * time.Second
)

// ErrAbsent says that a Directory answers, and has no entry for an id.
var ErrAbsent = errors.New("cluster: no node has announced this id")

var errUnheard = errors.New("cluster: events came faster than they were heard")

// An Entry says that a session for an id is on a node. It holds nothing secret.
type Entry struct {
	// ID is what the entry is for, and its key: 1 to 63 lower-case letters, digits
	// and hyphens. What a Directory returns has the ID under which it was found.
	ID string

	// Gen is the number of the registration: of two, the higher is the newer one. It
	// is the time in microseconds at which the node saw it, or one more than the
	// highest that it knows.
	Gen uint64

	// Node and Boot name the process that has the session: see Node.
	Node, Boot string

	// Instance names the tunnel client's process, and Attempt counts its
	// registrations. Between two entries of one instance the higher attempt is the
	// newer one, whatever Gen says. Empty: the client has not said.
	Instance string
	Attempt  uint64

	// Sig is the signature of all that: see Keys.
	Sig string
}

// A Node is a process of the cluster.
type Node struct {
	Name    string // as configured; no two nodes of a cluster have the same
	Boot    string // random, of this process
	Addr    string // host:port, for other nodes
	Version string // of the program
	State   State
	Tunnels int       // at the last beat
	Beat    time.Time // when it was stored, by the node's own clock

	Sig string // see Keys
}

// State is what a node does.
type State string

// The states of a node.
const (
	Up       State = "up"
	Draining State = "draining" // it serves what it has, and takes no new sessions

	// Restoring: it announces again what the directory may have lost. It can be Up or
	// Draining besides.
	Restoring State = "restoring"
)

// An Outcome says what has become of an entry that was put.
type Outcome struct {
	Verdict Verdict

	// Before is the entry that was there: replaced if Stored, and in force if Behind
	// or Superseded. Its ID is empty if there was none.
	Before Entry
}

// Verdict is one of the constants below.
type Verdict int

const (
	// Stored: the entry is in force now.
	Stored Verdict = iota + 1

	// Kept: it was stored already, exactly as given.
	Kept

	// Behind: the one that is stored has a Gen at least as high. If the session is
	// newer nevertheless, the caller tries again with a higher one.
	Behind

	// Superseded: a later attempt of the same instance is stored.
	Superseded
)

// Judge returns the verdict on next where stored is in force; stored.ID is empty if
// there is none. Each Directory decides by this rule.
func Judge(stored, next Entry) Verdict {
	switch {
	case stored.ID == "":
		return Stored
	case stored == next:
		return Kept
	case next.Instance != "" && next.Instance == stored.Instance && next.Attempt < stored.Attempt:
		return Superseded
	case next.Gen <= stored.Gen:
		return Behind
	}
	return Stored
}

// An Event is a change in a Directory.
type Event struct {
	Kind  EventKind
	Entry Entry // of Claimed, the one in force; of Released, the one that has gone
	Node  Node  // of NodeChanged and NodeLeft
}

// EventKind is one of the constants below.
type EventKind int

// The kinds of events.
const (
	EventResync      EventKind = iota + 1 // events may have been missed until now
	EventClaimed                          // an entry has been stored
	EventReleased                         // an entry has been deleted
	EventNodeChanged                      // a node has come, or is in another state
	EventNodeLeft                         // a node has left
)
