// Package gcpace sets the pace of the garbage collector. With Go's default, which
// lets the heap double between two collections, a busy process with a small heap
// collects dozens of times a second, and an idle one keeps what its busiest time
// needed.
package gcpace

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// defaultPercent is Go's own.
	defaultPercent = 100

	// A heap is not collected before it has a part of the machine's memory,
	// within these bounds. With 64 MiB websocket messages became slower, perhaps
	// because the processor's caches hold less than that.
	memoryPart       = 32
	minHeap, maxHeap = 4 << 20, 16 << 20

	// goMinimum is the size to which Go lets a heap grow with 100 percent, however
	// little of it is live.
	goMinimum = 4 << 20

	// checkInterval is how often is looked whether the process has become quiet.
	checkInterval = 5 * time.Second

	// A heap grows by freeHeap at most between two collections, or by half if that is
	// more: what one peer may make a process hold must not count twice.
	freeHeap    = 64 << 20
	halfPercent = 50

	// For what idle peers hold it may grow by more, within a part of the memory: marking
	// that is paid for by requests, and costs each of them the more the more peers there are.
	idlePercent = 300
	idlePart    = 4

	// New peers count little by little, for a minute: while thousands connect, what that
	// leaves in the heap would stay there for long.
	idleSteps = 12

	// A process is quiet that has allocated less than this part of its live heap,
	// and quietAlloc, since the last look.
	quietPart  = 8
	quietAlloc = 1 << 20

	// Each page that is needed again costs a fault. So where memory was needed again within
	// this many looks the last two times that it was given back, as by load that comes
	// each half minute, the process has to be quiet for as many before it is again. Once is
	// enough beside settled peers: a heap that they let grow by more is one of many pages.
	soonLooks  = 12
	soonEnough = 2

	// What a quiet process holds beside its live heap is given back where it is
	// more than this part of that, and worthwhile.
	slackPart  = 4
	worthwhile = 8 << 20
)

// Start sets the pace for a machine with this much memory, in bytes (0: not
// known), until stop is called. Where the environment variable GOGC is set it does
// nothing.
//
// A heap may grow to a 32nd of the memory, 4 to 16 MiB, before it is collected. Above
// that it may double, which is Go's default, but above 64 MiB it grows by these, and above
// 128 MiB by half. What idle returns, if it is not nil, is how much of the heap peers hold
// that do nothing: by three times that it may grow in any case, up to a quarter of the memory.
// New goroutines start with larger stacks where that costs little. A limit that [debug.SetMemoryLimit]
// or GOMEMLIMIT sets comes first. When the process has become quiet, memory that it
// does not need goes back to the system.
func Start(memory int64, idle func() int64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	p := &pace{least: maxHeap, memory: memory, idle: idle, percent: defaultPercent}
	if memory > 0 {
		p.least = min(max(memory/memoryPart, minHeap), maxHeap)
	}
	p.adapt()
	p.afterNext()
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { p.giveBack(done) })
	return func() {
		p.end()
		close(done)
		running.Wait()
	}
}

type pace struct {
	least   int64 // bytes
	memory  int64 // bytes, of the machine; 0: not known
	idle    func() int64
	settled atomic.Int64 // what of idle's result counts

	mu      sync.Mutex
	percent int // that is set
	ballast ballast
	stopped bool
}

// afterNext calls adapt after the next collection, and after each that follows.
func (p *pace) afterNext() {
	runtime.AddCleanup(new(sentinel), func(p *pace) {
		if p.adapt() {
			p.afterNext()
		}
	}, p)
}

// sentinel is garbage from the beginning. The size keeps it out of the block of
// tiny objects, which would live on together.
type sentinel struct{ _ [32]byte }

// adapt reports whether the pace is still to be set.
func (p *pace) adapt() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	v := read(liveHeap, stacks, globals)
	percent := percentFor(v[0], v[1]+v[2], p.least)
	percent = max(percent, idlePercentFor(v[0], v[1]+v[2], p.settled.Load(), p.memory/idlePart))
	p.ballast.adapt(runtime.NumGoroutine(), v[1], mostBallast(p.memory))
	// Each change stops the world for a moment.
	if d := percent - p.percent; d > p.percent/8 || -d > p.percent/8 {
		p.percent = percent
		debug.SetGCPercent(percent)
	}
	return true
}

func (p *pace) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.ballast.end()
}

// percentFor returns the GOGC with which a live heap grows to least, or doubles, or, if it
// is large, grows by less. Go takes
// the percentage of the live heap and of what else is scanned, roots, together: a small
// process may have more of those than live heap. And at any size Go lets a heap grow to
// goMinimum times the percentage.
func percentFor(live, roots, least int64) int {
	percent := min((least-live)*100/max(live+roots, 1), least*100/goMinimum)
	most := min(defaultPercent, max(halfPercent, freeHeap*100/max(live+roots, 1)))
	return int(max(percent, most))
}

// idlePercentFor returns the GOGC with which it grows by three times what is idle, but not
// above most.
func idlePercentFor(live, roots, idle, most int64) int {
	return int(min(idle*idlePercent/100, most-live) * 100 / max(live+roots, 1))
}

// Names of [runtime/metrics].
const (
	liveHeap  = "/gc/heap/live:bytes"
	stacks    = "/gc/scan/stack:bytes"
	globals   = "/gc/scan/globals:bytes"
	allocated = "/gc/heap/allocs:bytes"
	objects   = "/memory/classes/heap/objects:bytes"
	unused    = "/memory/classes/heap/unused:bytes"
	free      = "/memory/classes/heap/free:bytes"
)

func read(names ...string) []int64 {
	samples := make([]metrics.Sample, len(names))
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples)
	values := make([]int64, len(names))
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			values[i] = int64(s.Value.Uint64())
		}
	}
	return values
}

// settle is called each checkInterval. It reports whether there are idle peers, all of which
// count.
func (p *pace) settle() bool {
	if p.idle == nil {
		return false
	}
	idle := p.idle()
	p.settled.Store(min(idle, p.settled.Load()+idle/idleSteps+1))
	return idle > 0 && p.settled.Load() == idle
}

// giveBack returns memory to the system when the process has become quiet.
func (p *pace) giveBack(done <-chan struct{}) {
	t := time.NewTicker(checkInterval)
	defer t.Stop()
	before := read(allocated)[0]
	var released int64 // what had been allocated when memory was last given back
	var pauses pauses
	for {
		select {
		case <-done:
			return
		case <-t.C:
		}
		settled := p.settle()
		v := read(allocated, liveHeap, objects, unused, free)
		long := pauses.look(v[0]-before < v[1]/quietPart+quietAlloc)
		before = v[0]
		// It costs a collection, and what is left may be due to fragmentation.
		again := v[0]-released > max(v[1]/quietPart, worthwhile)
		if slack := v[2] + v[3] + v[4] - v[1]; long && again && slack > max(v[1]/slackPart, worthwhile) {
			runtime.GC() // pools keep what they have for one collection more
			debug.FreeOSMemory()
			released = v[0]
			pauses.gaveBack(settled)
		}
	}
}
