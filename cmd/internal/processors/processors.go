// Package processors lets a program run on one processor while that is enough. Go wakes
// threads for work that could run at the same time, and where a request is a chain of
// short steps, as at both ends of a tunnel, they mostly come too late and find nothing: a
// quarter of the CPU time of a small request goes into that.
package processors

import (
	"os"
	"runtime"
	"time"
)

const (
	// busyInterval is how often is looked while the program works, and restInterval
	// while it does not. A program that uses less than resting of a processor does not.
	busyInterval = 100 * time.Millisecond
	restInterval = time.Second
	resting      = 0.05

	// One processor is not enough for a program that uses more than saturated of it. It
	// is again for one that has used less than enough of a processor for calmIntervals.
	saturated     = 0.85
	enough        = 0.6
	calmIntervals = 20

	// Nor is it for one where a part of more than crowded of what is ready to run waits for
	// longWait or more, as on a machine whose processors others use too: a program gets
	// less of them with one thread than with several.
	crowded  = 0.05
	longWait = time.Millisecond
)

// Start lets the program run on one processor, or on all that Go would use while one is
// not enough, until stop is called. Where the environment variable GOMAXPROCS is set it
// does nothing, nor where the system does not say how much CPU time the program has used.
func Start() (stop func()) { return start(cpuTime) }

func start(cpu func() (used time.Duration, known bool)) (stop func()) {
	if _, known := cpu(); !known || os.Getenv("GOMAXPROCS") != "" || runtime.GOMAXPROCS(0) == 1 {
		return func() {}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		run(done, cpu)
	}()
	return func() {
		close(done)
		<-ended
	}
}

func run(done <-chan struct{}, cpu func() (time.Duration, bool)) {
	defer runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(1)
	t := time.NewTimer(restInterval)
	defer t.Stop()
	var g governor
	used, _ := cpu()
	waits := newWaits()
	for last := time.Now(); ; {
		select {
		case <-done:
			return
		case <-t.C:
		}
		now := time.Now()
		n, _ := cpu()
		wide := g.wide
		next := g.look(float64(n-used)/float64(max(now.Sub(last), 1)), waits.late())
		used, last = n, now
		switch {
		case g.wide && !wide:
			runtime.SetDefaultGOMAXPROCS()
		case wide && !g.wide:
			runtime.GOMAXPROCS(1)
		}
		t.Reset(next)
	}
}

// governor decides whether one processor is enough. The zero value says so.
type governor struct {
	wide bool // it is not
	calm int  // for so many intervals one would have been
}

// look takes how many processors have been used since the last time, and which part of
// what was ready has waited for long. It returns when to look again.
func (g *governor) look(load, late float64) time.Duration {
	if load < enough && late <= crowded {
		g.calm++
	} else {
		g.calm = 0
	}
	g.wide = g.wide && g.calm < calmIntervals || load > saturated || load > resting && late > crowded
	if load < resting && !g.wide {
		return restInterval
	}
	return busyInterval
}
