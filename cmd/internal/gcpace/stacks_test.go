package gcpace

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
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
		b.adapt(running, scanned+int64(b.bytes), most)
	}
	for i, tc := range []struct {
		others  int
		scanned int64
		most    int64
		want    int
	}{
		{0, 50_000, minBallast, 0}, {10, 10_000, minBallast, 4}, {100, 50_000, minBallast, 22}, {1000, 100_000, minBallast, 224},
		{1002, 100_000, minBallast, 224}, {100, 500_000, minBallast, 224}, {2000, 1_000_000, minBallast, 0},
		{10_000, 12_000_000, maxBallast, 1536}, {10_000, 12_000_000, minBallast, 0}, {20_000, 24_000_000, maxBallast, 0},
		{100, 50_000, minBallast, 22}, {100, 500_000, minBallast, 22},
	} {
		adapt(tc.others, tc.scanned, tc.most)
		if n := b.bytes / ballastUnit; n != tc.want {
			t.Errorf("%d: %d goroutines with %d bytes: %d units, want %d", i, tc.others, tc.scanned, n, tc.want)
		}
	}
	for range ballastMemory {
		adapt(0, 50_000, minBallast)
	}
	if b.bytes != 0 || b.stop != nil {
		t.Errorf("%d bytes stay", b.bytes)
	}
}

func TestMostBallast(t *testing.T) {
	for _, tc := range []struct{ memory, want int64 }{
		{0, minBallast}, {64 << 20, minBallast}, {1 << 30, 16 << 20}, {1 << 40, maxBallast},
	} {
		if got := mostBallast(tc.memory); got != tc.want {
			t.Errorf("memory %d: %d, want %d", tc.memory, got, tc.want)
		}
	}
}

// TestBallastIsNotTouched: it counts as stack, and takes no memory of the machine's.
func TestBallastIsNotTouched(t *testing.T) {
	resident := func() int64 {
		data, err := os.ReadFile("/proc/self/statm") // proc_pid_statm(5)
		if err != nil {
			t.Skipf("SKIPPED: what is resident is read from Linux's /proc: %v", err)
		}
		var size, pages int64
		if _, err := fmt.Sscan(string(data), &size, &pages); err != nil {
			t.Fatal(err)
		}
		return pages * int64(os.Getpagesize())
	}
	var b ballast
	for _, bytes := range []int{ballastUnit, 11 * ballastUnit, 15 << 20, 30 << 20, maxBallast} {
		runtime.GC()
		debug.FreeOSMemory()
		before, scanned := resident(), read(stacks)[0]
		b.have(bytes)
		for n := 0; ; n++ { // until the goroutine waits
			runtime.GC()
			if got := read(stacks)[0] - scanned; got >= int64(bytes) && got < int64(bytes)+ballastUnit {
				break
			} else if n == 1000 {
				t.Fatalf("%d bytes count as %d", bytes, got)
			}
			runtime.Gosched()
		}
		if grown := resident() - before; grown > 4<<20 {
			t.Errorf("%d bytes: %d more are resident", bytes, grown)
		}
		b.end()
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
