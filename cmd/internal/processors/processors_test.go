package processors

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCPUTime(t *testing.T) {
	before, known := cpuTime()
	if !known {
		t.Skip("the system does not say")
	}
	for now := before; now == before; now, _ = cpuTime() { // this uses some
	}
}

// TestWaits: one processor that is kept busy makes others wait.
func TestWaits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	w := newWaits()
	for w.late() == 0 {
		done := make(chan struct{})
		for range 100 {
			go func() { done <- struct{}{} }()
		}
		for begun := time.Now(); time.Since(begun) < 2*longWait; {
		}
		for range 100 {
			<-done
		}
	}
}

func TestGovernor(t *testing.T) {
	var g governor
	for i, tc := range []struct {
		load  float64
		late  float64
		times int
		wide  bool
	}{
		{0, 0, 3, false}, {0.8, 0, 50, false}, {0.9, 0, 1, true}, {1.7, 0, 100, true}, {0.7, 0, 100, true},
		{0.5, 0, calmIntervals - 1, true}, {0.7, 0, 1, true}, {0.5, 0, calmIntervals - 1, true}, {0, 0, 1, false}, {0, 0, 100, false}, {0.86, 0, 1, true},
		{0, 0, calmIntervals, false}, {0.01, 1, 100, false}, {0.2, 0.04, 100, false}, {0.2, 0.06, 1, true}, {0.2, 0.06, 100, true}, {0.2, 0.04, calmIntervals, false},
	} {
		for range tc.times {
			g.look(tc.load, tc.late)
		}
		if g.wide != tc.wide {
			t.Errorf("%d: after %d × %v wide is %v", i, tc.times, tc.load, g.wide)
		}
	}
	if d := new(governor).look(0.01, 0); d != restInterval {
		t.Errorf("at rest it looks again after %v", d)
	}
	if d := new(governor).look(0.2, 0); d != busyInterval {
		t.Errorf("at work it looks again after %v", d)
	}
}

// TestStart: it starts with one processor, takes all when that one is used up, and leaves
// as many as there were.
func TestStart(t *testing.T) {
	if runtime.NumCPU() == 1 {
		t.Skip("there is one processor")
	}
	t.Setenv("GOMAXPROCS", "")
	runtime.SetDefaultGOMAXPROCS()
	before := runtime.GOMAXPROCS(0)
	// Nothing is known of how much a busy machine lets this test have.
	begun := time.Now()
	var processors atomic.Int32
	stop := start(func() (time.Duration, bool) { return time.Duration(processors.Load()) * time.Since(begun), true })
	for runtime.GOMAXPROCS(0) != 1 {
		runtime.Gosched()
	}
	processors.Store(2)
	for runtime.GOMAXPROCS(0) == 1 {
		runtime.Gosched()
	}
	stop()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("it leaves %d of %d", n, before)
	}

	t.Setenv("GOMAXPROCS", "1")
	defer runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(before)
	stop = Start()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("with GOMAXPROCS set it makes %d of %d", n, before)
	}
	stop()
}
