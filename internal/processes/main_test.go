//go:build linux

package processes

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long the tests wait for what should come at once.
const patience = 30 * time.Second

var (
	binaries string // directory of the two commands
	here     *host  // this machine, without a namespace
)

// long says that the versions are to run that take minutes. It asks anew each
// time, for what is read before the tests begin is unknown to the cache of go
// test, which would answer with a short run.
func long() bool { return os.Getenv("WST_LONG") != "" }

func TestMain(m *testing.M) {
	if settings := os.Getenv(floodVariable); settings != "" {
		if err := flood(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(building{m})
}

// building builds the commands before it runs the tests. WST_BIN names a
// directory with others, to compare versions.
type building struct{ m *testing.M }

func (b building) Run() int {
	if flag.Parse(); testing.Short() {
		return b.m.Run()
	}
	dir, err := os.MkdirTemp("", "processes")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binaries = os.Getenv("WST_BIN"); binaries == "" {
		binaries = dir
		args := []string{"build", "-o", dir + string(filepath.Separator)}
		if raceEnabled {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, "../../cmd/websocktunnel", "../../cmd/wst-client")...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the commands: %v\n%s", err, out)
			return 1
		}
	}
	if here, err = newHost(false); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer here.close()
	if !long() { // the tests wait more than they work
		if err := flag.Set("test.parallel", strconv.Itoa(max(2, runtime.GOMAXPROCS(0)))); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return b.m.Run()
}

// needProcesses is the first line of every test here.
func needProcesses(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes")
	}
	t.Parallel()
}

// needLong is for a test that takes longer than any change can wait for.
func needLong(t *testing.T) {
	t.Helper()
	if !long() {
		t.Skip("set WST_LONG=1")
	}
}

// pick returns the value for this kind of run.
func pick[T any](forShort, forLong T) T {
	if long() {
		return forLong
	}
	return forShort
}

// summary prints what a test has measured, whether it has failed or not.
func summary(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("MEASURED %s: %s", t.Name(), fmt.Sprintf(format, args...))
	if long() && !testing.Verbose() {
		fmt.Printf("MEASURED %s: %s\n", t.Name(), fmt.Sprintf(format, args...)) //nolint:forbidigo // go test shows the log of a test that passes only with -v
	}
}

// quantile returns the q-quantile of values, which it sorts.
func quantile[T cmp.Ordered](values []T, q float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	slices.Sort(values)
	return values[min(len(values)-1, int(q*float64(len(values))))]
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
