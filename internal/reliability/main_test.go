package reliability

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(crowdAddr) != "" {
		if err := runCrowd(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// noLeaks checks, after everything else of the test, that no goroutine is left.
// It is to be called first. In the edit loop it skips the test.
func noLeaks(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes seconds: not with -short")
	}
	t.Cleanup(func() {
		if !t.Failed() { // else it says nothing new
			goleak.VerifyNone(t)
		}
	})
}

// long says that the versions are to run that take minutes. It asks anew each
// time, for what is read before the tests begin is unknown to the cache of go
// test, which would answer with a short run.
func long() bool { return os.Getenv("WST_LONG") != "" }

// pick returns the one of two values that fits the version that runs.
func pick[T any](short, longer T) T {
	if long() {
		return longer
	}
	return short
}

// setting returns a duration from the environment.
func setting(t *testing.T, name string, def time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return def
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// seed returns the seed of all that is random in a test: WST_SEED, or 1 for
// the short version and a new one for the long. It is printed.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := uint64(1)
	if s := os.Getenv("WST_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("WST_SEED: %v", err)
		}
	} else if long() {
		n = rand.Uint64()
	}
	t.Logf("WST_SEED=%d", n)
	return n
}

// within checks a latency beside the same one without the fault: at most twice
// as long, or less than floor, which is for what else a small machine does. It
// is a figure of the long version, without the race detector.
func within(t *testing.T, what string, got, usual, floor time.Duration) {
	t.Helper()
	if bound := max(2*usual, floor); long() && !raceDetector && got > bound {
		t.Errorf("%s: %v, more than %v (usually %v)", what, got, bound, usual)
	}
}
