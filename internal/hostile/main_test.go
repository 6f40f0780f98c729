package hostile

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// long says that the versions are to run that take minutes. It asks anew each
// time, for what is read before the tests begin is unknown to the cache of go
// test, which would answer with a short run.
func long() bool { return os.Getenv("WST_LONG") != "" }

func TestMain(m *testing.M) {
	// What x/net says about tunnel clients goes to the standard logger.
	log.SetOutput(&standard)
	flag.Parse()
	flag.Set("test.parallel", "8") // attacks mostly wait
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, text := range []string{"panic", "unhandled response frame type"} {
			if standard.has(text) {
				fmt.Fprintf(os.Stderr, "FAIL: the standard log has %q:\n%.2000s", text, standard.String())
				code = 1
			}
		}
		os.Exit(code)
	}))
}

var standard lines

// lines is a log in memory.
type lines struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	times []time.Time
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, time.Now())
	return l.buf.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.buf.Bytes(), []byte(text))
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// busiest returns the largest number of lines with text in them within 0.8 s. Of
// a whole second it would tell too many: the limit's clock is read before a line
// is written, and a busy machine may do other things in between.
func (l *lines) busiest(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	var times []time.Time
	for i, line := range strings.SplitAfter(l.buf.String(), "\n") {
		if i < len(l.times) && strings.Contains(line, text) {
			times = append(times, l.times[i])
		}
	}
	most, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) > 800*time.Millisecond {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}
