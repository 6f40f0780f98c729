package gcpace

import (
	"runtime"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPercentFor(t *testing.T) {
	for _, tc := range []struct {
		live, roots, least int64 // MiB
		want               int
	}{
		{0, 0, 64, 1600}, {1, 0, 64, 1600}, {8, 0, 64, 700}, {32, 0, 64, 100}, {33, 0, 64, 100}, {64, 0, 64, 100}, {96, 0, 64, 66}, {1000, 0, 64, 50}, {1000, 0, 16, 50}, {50, 30, 16, 80}, {4, 0, 16, 300},
		{1, 2, 16, 400}, {2, 2, 16, 350}, {0, 0, 4, 100}, {1, 15, 16, 100}, {6, 4, 16, 100},
	} {
		if got := percentFor(tc.live<<20, tc.roots<<20, tc.least<<20); got != tc.want {
			t.Errorf("%d MiB of %d: %d, want %d", tc.live, tc.least, got, tc.want)
		}
	}
}

func TestIdlePercentFor(t *testing.T) {
	for _, tc := range []struct {
		live, roots, idle, most int64 // MiB
		want                    int
	}{
		{100, 0, 100, 1000, 300}, {100, 50, 100, 1000, 200}, {200, 0, 100, 1000, 150}, {100, 0, 100, 200, 100},
		{100, 0, 0, 1000, 0}, {300, 0, 300, 200, -33}, {0, 0, 0, 0, 0},
	} {
		if got := idlePercentFor(tc.live<<20, tc.roots<<20, tc.idle<<20, tc.most<<20); got != tc.want {
			t.Errorf("%d MiB of which %d are idle, within %d: %d, want %d", tc.live, tc.idle, tc.most, got, tc.want)
		}
	}
}

// gcPercent returns what is set.
func gcPercent() int { return int(read("/gc/gogc:percent")[0]) }

// TestPaceFollowsHeap: the larger the live heap, the less it may grow by.
func TestPaceFollowsHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := gcPercent()
	defer debug.SetGCPercent(before)
	runtime.GC() // what another test held counts no more
	defer Start(1<<40, nil)()
	if n := gcPercent(); n != 400 { // of 4 MiB
		t.Errorf("with an empty heap it is %d", n)
	}
	for _, tc := range []struct{ live, want int }{{50, defaultPercent}, {200, halfPercent}} {
		ballast := make([]byte, tc.live<<20)
		// The pace is adapted behind a collection, by the goroutine that cleans up.
		for n := range 10_000 {
			runtime.GC()
			if gcPercent() == tc.want {
				break
			}
			if n == 9_999 {
				t.Errorf("with %d MiB it is %d", tc.live, gcPercent())
			}
			runtime.Gosched()
		}
		runtime.KeepAlive(ballast)
	}
}

// TestIdlePeersSettle: new ones count within a minute, those that have gone not at all.
func TestIdlePeersSettle(t *testing.T) {
	idle := int64(100 << 20)
	p := &pace{idle: func() int64 { return idle }, memory: idlePart << 40}
	p.settle()
	if n := p.settled.Load(); n > idle/10 {
		t.Errorf("at first %d of %d count", n, idle)
	}
	for range idleSteps {
		p.settle()
	}
	if n := p.settled.Load(); n != idle {
		t.Errorf("after a minute %d of %d count", n, idle)
	}
	idle = 1 << 20
	p.settle()
	if n := p.settled.Load(); n != idle {
		t.Errorf("when most have gone, %d count, want %d", n, idle)
	}
}

func TestGOGCWins(t *testing.T) {
	t.Setenv("GOGC", "150")
	before := gcPercent()
	defer Start(1<<40, nil)()
	if n := gcPercent(); n != before {
		t.Errorf("it is %d, want %d", n, before)
	}
}
