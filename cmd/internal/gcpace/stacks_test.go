package gcpace

import (
	"runtime"
	"testing"
	"unsafe"
)

// TestBallast: it is enough for the most of some collections, and there is none where
// that would take too much.
func TestBallast(t *testing.T) {
	var b ballast
	defer b.end()
	adapt := func(others int, scanned, idle int64) {
		running := others
		if b.stop != nil {
			running++
		}
		b.adapt(running, scanned+int64(b.frames)*ballastFrame, idle)
	}
	for i, tc := range []struct {
		others  int
		scanned int64
		idle    int64
		want    int
	}{
		{0, 50_000, 0, 0}, {10, 10_000, 0, 4}, {100, 50_000, 0, 24}, {1000, 100_000, 0, 241}, {100, 500_000, 0, 241}, {2000, 1_000_000, 0, 0},
		{1000, 100_000, 0, 240}, {20_000, 40_000_000, 0, 0}, {100, 50_000, 0, 24}, {100, 500_000, 0, 24}, {100, 50_000, 5 << 20, 0},
	} {
		adapt(tc.others, tc.scanned, tc.idle)
		if b.frames != tc.want {
			t.Errorf("%d: %d goroutines with %d bytes: %d frames, want %d", i, tc.others, tc.scanned, b.frames, tc.want)
		}
	}
	adapt(100, 50_000, 0)
	for range ballastMemory {
		adapt(0, 50_000, 0)
	}
	if b.frames != 0 || b.stop != nil {
		t.Errorf("%d frames stay", b.frames)
	}
}

// growths returns how many of n new goroutines, which need depth bytes, have their stack
// copied to a larger one.
func growths(n, depth int) (grown int) {
	for range n {
		done := make(chan bool)
		go func() { done <- grows(depth) }()
		if <-done {
			grown++
		}
	}
	return grown
}

// grows reports whether its stack is another after it has needed depth bytes. A variable
// on the stack moves with it.
func grows(depth int) bool {
	var here byte
	before := uintptr(unsafe.Pointer(&here))
	need(depth)
	return uintptr(unsafe.Pointer(&here)) != before
}

//go:noinline
func need(depth int) {
	var frame [256]byte
	if depth > len(frame) {
		need(depth - len(frame))
	}
	runtime.KeepAlive(&frame)
}

// TestNewGoroutinesHaveRoom: with ballasts, a goroutine that needs some more than 4 KiB
// starts with enough. It is seen by the address of a variable, which a copy changes.
func TestNewGoroutinesHaveRoom(t *testing.T) {
	t.Setenv("GOGC", "")
	const goroutines, depth = 20, 5 << 10
	until := func(what string, grown int) {
		for n := 0; growths(goroutines, depth) != grown; n++ {
			if n == 1000 {
				t.Fatalf("%s: not %d of %d have grown", what, grown, goroutines)
			}
			runtime.GC()
		}
	}
	until("before", goroutines)
	stop := Start(1<<40, nil)
	until("with a ballast", 0)
	stop()
	until("after", goroutines)
}
