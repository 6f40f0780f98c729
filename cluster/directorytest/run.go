package directorytest

import (
	"context"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// A Fixture is an empty directory, for one test.
type Fixture struct {
	// Directory is the one to test.
	Directory cluster.Directory

	// Other is a second one for the same store, such as another node has. Nil means
	// that there is only one.
	Other cluster.Directory

	// Advance moves the time of the store. Nil means that it cannot be moved.
	Advance func(time.Duration)

	// EntryLife and NodeLife return how long an entry or a node has yet to live. They
	// are for stores whose time cannot be moved.
	EntryLife func(id string) time.Duration
	NodeLife  func(name string) time.Duration

	// Break breaks the connections of those who watch. Nil means that there are
	// none.
	Break func()

	// Many is how many entries are put at once at most. Zero means 10,000.
	Many int
}

// limit is how long a test waits for what has to happen.
const limit = time.Minute

// Run runs the tests, each with a directory that fixture makes for it and that
// closes by itself ([testing.T.Cleanup]).
func Run(t *testing.T, fixture func(t *testing.T) Fixture) {
	cases := []struct {
		name string
		run  func(*suite)
	}{
		{"an entry for a new id is stored", stored},
		{"the same entry again is kept", kept},
		{"a higher gen replaces", replaced},
		{"a lower gen is behind", behind},
		{"the same gen of another session is behind", sameGen},
		{"each entry differs by each field", fields},
		{"a later attempt needs a higher gen too", laterAttempt},
		{"an earlier attempt of an instance is superseded", superseded},
		{"attempts of different instances are not compared", otherInstance},
		{"attempts without an instance are not compared", noInstance},
		{"gens are compared as numbers", gens},
		{"the verdicts are those of Judge", judged},
		{"several entries at once have verdicts in order", several},
		{"no entries at all", none},
		{"very many entries at once", many},
		{"an entry is deleted", deleted},
		{"an entry of another session is not deleted", notDeleted},
		{"deleting many, of which some are absent", deletedMany},
		{"an absent id", absent},
		{"ids with every character", characters},
		{"texts of every kind", texts},
		{"an entry expires", entryExpires},
		{"an entry that is put again lives longer", entryRefreshed},
		{"one that is refused does not lengthen a life", entryNotRefreshed},
		{"the highest of many at the same time wins", concurrent},
		{"two directories of one store", shared},
		{"a node is known by its boot", beat},
		{"nodes are listed as they are", nodes},
		{"a node expires", nodeExpires},
		{"a node leaves", leave},
		{"a node is not taken away by its predecessor", leaveOther},
		{"watching begins with a resync", resync},
		{"events of an entry, in order", entryEvents},
		{"events of a node, in order", nodeEvents},
		{"what changes nothing is no event", noEvents},
		{"nothing is missed after a resync", nothingMissed},
		{"several watchers", watchers},
		{"watching ends with its context", watchEnds},
		{"watching ends with its connection", watchBreaks},
		{"a slow watcher misses nothing without being told", slowWatcher},
		{"a context that has ended", ended},
		{"a directory that has closed", closed},
	}
	t.Run("Judge", judge)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			t.Cleanup(cancel)
			s := &suite{T: t, Fixture: fixture(t), ctx: ctx}
			if s.Other == nil {
				s.Other = s.Directory
			}
			c.run(s)
		})
	}
}

// A suite is one test with what it needs.
type suite struct {
	*testing.T
	Fixture
	ctx context.Context
}

// entry returns an entry with all its fields set.
func entry(id string, gen uint64) cluster.Entry {
	return cluster.Entry{
		ID: id, Gen: gen, Node: "node-a", Boot: "boot-a",
		Instance: "instance-of-" + id, Attempt: 1, Sig: "c2lnbmVk",
	}
}

// other is such an entry of another instance, so that only gen counts.
func other(id string, gen uint64) cluster.Entry {
	e := entry(id, gen)
	e.Node, e.Boot, e.Instance = "node-b", "boot-b", "another-instance"
	return e
}

// put puts one entry, and fails the test unless the outcome is as wanted.
func (s *suite) put(e cluster.Entry, want cluster.Verdict, before cluster.Entry) {
	s.Helper()
	s.outcomes([]cluster.Entry{e}, []cluster.Outcome{{Verdict: want, Before: before}})
}

func (s *suite) outcomes(entries []cluster.Entry, want []cluster.Outcome) {
	s.Helper()
	got, err := s.Directory.Put(s.ctx, entries)
	if err != nil || len(got) != len(want) {
		s.Fatalf("Put: %d outcomes, error %v; want %d", len(got), err, len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			s.Fatalf("Put of %+v:\n got %+v\nwant %+v", entries[i], got[i], want[i])
		}
	}
}

// has fails the test unless want is stored.
func (s *suite) has(want cluster.Entry) {
	s.Helper()
	if got, err := s.Directory.Get(s.ctx, want.ID); err != nil || got != want {
		s.Fatalf("Get %q:\n got %+v, error %v\nwant %+v", want.ID, got, err, want)
	}
}

// hasNone fails the test if there is an entry for id.
func (s *suite) hasNone(id string) {
	s.Helper()
	if got, err := s.Directory.Get(s.ctx, id); !isAbsent(err) || got != (cluster.Entry{}) {
		s.Fatalf("Get %q: %+v, error %v; want ErrAbsent", id, got, err)
	}
}

func (s *suite) delete(entries ...cluster.Entry) {
	s.Helper()
	if err := s.Directory.Delete(s.ctx, entries); err != nil {
		s.Fatalf("Delete: %v", err)
	}
}

func (s *suite) beat(n cluster.Node, want bool) {
	s.Helper()
	if known, err := s.Directory.Beat(s.ctx, n); err != nil || known != want {
		s.Fatalf("Beat of %+v: known %v, error %v; want %v", n, known, err, want)
	}
}

func (s *suite) leave(n cluster.Node) {
	s.Helper()
	if err := s.Directory.Leave(s.ctx, n); err != nil {
		s.Fatalf("Leave: %v", err)
	}
}
