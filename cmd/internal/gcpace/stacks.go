package gcpace

import (
	"runtime"
	"slices"
)

const (
	// wantedStack is how much of a stack is to be in use on average, in bytes, for Go to
	// give new goroutines one of 8 KiB: it takes more than 4 KiB with the guard of 928
	// bytes, and the number of goroutines changes. x/net runs each request in new ones
	// that need a little more than 4 KiB.
	wantedStack = 4000

	// A ballast has up to maxBallast bytes, in frames of ballastFrame. Where more would be
	// needed there is none, nor where idle peers hold as much: their stacks are to stay
	// small.
	maxBallast   = 4 << 20
	ballastFrame = 16 << 10

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

// adapt is called after a collection that has found so many bytes on all stacks, while
// idle peers hold so many bytes.
func (b *ballast) adapt(goroutines int, scanned, idle int64) {
	others := scanned - int64(b.frames)*ballastFrame
	missing := int64(goroutines+ownGoroutines)*wantedStack - others
	if max(missing, idle) > maxBallast {
		b.wanted, missing = [ballastMemory]int{}, 0
	}
	b.wanted[b.next] = int((max(missing, 0) + ballastFrame - 1) / ballastFrame)
	b.next = (b.next + 1) % ballastMemory
	b.have(slices.Max(b.wanted[:]))
}

func (b *ballast) end() { b.have(0) }

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
