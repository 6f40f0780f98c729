package gcpace

import (
	"math/bits"
	"runtime"
	"slices"
)

const (
	// wantedStack is how much of a stack is to be in use on average, in bytes, for Go to
	// give new goroutines one of 8 KiB: it takes more than 4 KiB with the guard of 928
	// bytes, and the number of goroutines changes. x/net runs each request in new ones
	// that need a little more than 4 KiB.
	wantedStack = 3600

	// A ballast has up to idleBallast bytes, in frames of ballastFrame, but none where idle
	// peers hold more: what they cost is to stay small. While the process is busy it has up
	// to a part of the memory, or busyBallast. Where more would be needed there is none.
	idleBallast  = 4 << 20
	busyBallast  = 32 << 20
	busyPart     = 64
	ballastFrame = 16 << 10

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
	frames int
	stop   chan struct{} // nil without frames
	wanted [ballastMemory]int
	next   int // index of wanted
}

// adapt is called after a collection that has found so many bytes on all stacks, where the
// ballast may have so many.
func (b *ballast) adapt(goroutines int, scanned, most int64) {
	others := scanned - int64(b.frames)*ballastFrame
	missing := int64(goroutines+ownGoroutines)*wantedStack - others
	if missing > most {
		b.end()
		return
	}
	frames := int((max(missing, 0) + ballastFrame - 1) / ballastFrame)
	step := 1 << max(bits.Len(uint(frames))-ballastBits, 0)
	b.wanted[b.next] = (frames + step - 1) / step * step
	b.next = (b.next + 1) % ballastMemory
	b.have(slices.Max(b.wanted[:]))
}

// mostBallast returns how many bytes it may have while idle peers hold so many, in a
// machine with so much memory (0: not known).
func mostBallast(busy bool, idle, memory int64) int64 {
	switch {
	case busy && memory > 0:
		return max(min(memory/busyPart, busyBallast), idleBallast)
	case idle > idleBallast:
		return 0
	default:
		return idleBallast
	}
}

func (b *ballast) end() {
	b.wanted = [ballastMemory]int{}
	b.have(0)
}

func (b *ballast) have(frames int) {
	if frames == b.frames {
		return
	}
	if b.stop != nil {
		close(b.stop)
		b.stop = nil
	}
	if b.frames = frames; frames > 0 {
		b.stop = make(chan struct{})
		go deep(frames, b.stop)
	}
}

// deep waits for stop below so many frames.
//
//go:noinline
func deep(frames int, stop <-chan struct{}) {
	var frame [ballastFrame]byte
	if frames > 1 {
		deep(frames-1, stop)
	} else {
		<-stop
	}
	runtime.KeepAlive(&frame)
}
