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
	adapt := func(others int, scanned, most int64) {
		running := others
		if b.stop != nil {
			running++
		}
		b.adapt(running, scanned+int64(b.frames)*ballastFrame, most)
	}
	for i, tc := range []struct {
		others  int
		scanned int64
		most    int64
		want    int
	}{
		{0, 50_000, idleBallast, 0}, {10, 10_000, idleBallast, 4}, {100, 50_000, idleBallast, 22}, {1000, 100_000, idleBallast, 224},
		{1002, 100_000, idleBallast, 224}, {100, 500_000, idleBallast, 224}, {2000, 1_000_000, idleBallast, 0},
		{10_000, 12_000_000, busyBallast, 1536}, {10_000, 12_000_000, 0, 0}, {20_000, 24_000_000, busyBallast, 0},
		{100, 50_000, idleBallast, 22}, {100, 500_000, idleBallast, 22},
	} {
		adapt(tc.others, tc.scanned, tc.most)
		if b.frames != tc.want {
			t.Errorf("%d: %d goroutines with %d bytes: %d frames, want %d", i, tc.others, tc.scanned, b.frames, tc.want)
		}
	}
	for range ballastMemory {
		adapt(0, 50_000, idleBallast)
	}
	if b.frames != 0 || b.stop != nil {
		t.Errorf("%d frames stay", b.frames)
	}
}

// TestMostBallast: what idle peers hold is to stay small, but not while others make requests.
func TestMostBallast(t *testing.T) {
	for _, tc := range []struct {
		busy         bool
		idle, memory int64
		want         int64
	}{
		{false, 0, 0, idleBallast}, {false, idleBallast + 1, 1 << 40, 0}, {false, idleBallast, 1 << 40, idleBallast},
		{true, 100 << 20, 1 << 40, busyBallast}, {true, 100 << 20, 1 << 30, 16 << 20}, {true, 0, 64 << 20, idleBallast}, {true, 100 << 20, 0, 0},
	} {
		if got := mostBallast(tc.busy, tc.idle, tc.memory); got != tc.want {
			t.Errorf("busy %v, idle peers with %d, memory %d: %d, want %d", tc.busy, tc.idle, tc.memory, got, tc.want)
		}
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
