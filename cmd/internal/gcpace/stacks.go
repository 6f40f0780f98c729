package gcpace

import (
	"math/bits"
	"slices"
	"unsafe"
)

const (
	// wantedStack is how much of a stack is to be in use on average, in bytes, for Go to
	// give new goroutines one of 8 KiB: it takes more than 4 KiB with the guard of 928
	// bytes, and the number of goroutines changes. x/net runs each request in new ones
	// that need a little more than 4 KiB.
	wantedStack = 3600

	// A ballast has up to a part of the memory, or maxBallast. Where more would be needed
	// there is none. Its pages are never touched, so it takes none of the machine's
	// memory, but a limit that [debug.SetMemoryLimit] sets counts them.
	minBallast  = 4 << 20
	maxBallast  = 32 << 20
	ballastPart = 64
	ballastUnit = 16 << 10

	// Its size has this many bits: it is made anew for each other size.
	ballastBits = 4

	// ownGoroutines are about as many as the runtime has for itself, which it does not count.
	ownGoroutines = 8

	// The ballast is as large as one of this many collections has asked for.
	ballastMemory = 8
)

// A ballast is a goroutine that does nothing but have a deep stack. At each collection Go
// takes the average of what all stacks hold for the size with which new ones start
// (gcComputeStartingStackSize in the runtime). Most goroutines of a proxy wait where
// little is on the stack, so this is too small for those that work, and each of them
// begins with a copy of its stack to a larger one: 6 of the 100 µs that a request takes.
type ballast struct {
	bytes  int
	stop   chan struct{} // nil without bytes
	wanted [ballastMemory]int
	next   int // index of wanted
}

// adapt is called after a collection that has found so many bytes on all stacks, where the
// ballast may have so many.
func (b *ballast) adapt(goroutines int, scanned, most int64) {
	missing := int64(goroutines+ownGoroutines)*wantedStack - (scanned - int64(b.bytes))
	if missing > most {
		b.end()
		return
	}
	units := (max(missing, 0) + ballastUnit - 1) / ballastUnit
	step := int64(1) << max(bits.Len64(uint64(units))-ballastBits, 0)
	b.wanted[b.next] = int((units + step - 1) / step * step * ballastUnit)
	b.next = (b.next + 1) % ballastMemory
	b.have(slices.Max(b.wanted[:]))
}

// mostBallast returns how many bytes it may have in a machine with so much memory (0: not
// known).
func mostBallast(memory int64) int64 {
	return max(min(memory/ballastPart, maxBallast), minBallast)
}

func (b *ballast) end() {
	b.wanted = [ballastMemory]int{}
	b.have(0)
}

func (b *ballast) have(bytes int) {
	if bytes == b.bytes {
		return
	}
	if b.stop != nil {
		close(b.stop)
		b.stop = nil
	}
	if b.bytes = bytes; bytes > 0 {
		b.stop = make(chan struct{})
		go wait(bytes, frames, b.stop)
	}
}

// wait waits for stop with at least so many bytes on the stack, the largest frames first:
// a stack that has to grow again is copied, and then its pages are touched.
func wait(bytes int, among []frame, stop <-chan struct{}) {
	switch {
	case bytes <= 0 || len(among) == 0:
		<-stop
	case bytes < among[0].bytes:
		wait(bytes, among[1:], stop)
	default:
		among[0].below(func() { wait(bytes-among[0].bytes, among, stop) })
	}
}

// A frame is a function that has so many bytes on the stack while it calls another.
type frame struct {
	bytes int
	below func(func())
}

// frames has the largest first. One of maxBallast is needed for that, the last is ballastUnit.
var frames = []frame{
	frameOf[[32 << 20]byte](), frameOf[[16 << 20]byte](), frameOf[[8 << 20]byte](), frameOf[[4 << 20]byte](),
	frameOf[[2 << 20]byte](), frameOf[[1 << 20]byte](), frameOf[[512 << 10]byte](), frameOf[[256 << 10]byte](),
	frameOf[[128 << 10]byte](), frameOf[[64 << 10]byte](), frameOf[[32 << 10]byte](), frameOf[[ballastUnit]byte](),
}

func frameOf[A any]() frame {
	return frame{bytes: int(unsafe.Sizeof(*new(A))), below: func(next func()) { below[A](false, next) }}
}

// below calls next. Its frame has room for what a call that never happens would return.
//
//go:noinline
func below[A any](never bool, next func()) {
	if never {
		result[A]()
	}
	next()
}

//go:noinline
func result[A any]() (a A) { return a }
