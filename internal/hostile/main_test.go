package hostile

import (
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// long says that the versions are to run that take minutes. It asks anew each
// time, for what is read before the tests begin is unknown to the cache of go
// test, which would answer with a short run.
func long() bool { return os.Getenv("WST_LONG") != "" }

func TestMain(m *testing.M) {
	if attackMain() {
		return
	}
	// What x/net says about tunnel clients goes to the standard logger.
	log.SetOutput(&standard)
	flag.Parse()
	if flag.Lookup("test.fuzz").Value.String() == "" { // otherwise it is the number of processes
		flag.Set("test.parallel", "8") // attacks mostly wait
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		for _, text := range []string{"panic", "unhandled response frame type"} {
			if standard.Contains(text) {
				fmt.Fprintf(os.Stderr, "FAIL: the standard log has %q:\n%.2000s", text, standard.String())
				code = 1
			}
		}
		os.Exit(code)
	}))
}

var standard tunneltest.Log

// busiest returns the largest number of lines with text in them within 0.8 s. Of
// a whole second it would tell too many: the limit's clock is read before a line
// is written, and a busy machine may do other things in between.
func busiest(l *tunneltest.Log, text string) int {
	var times []time.Time
	for _, line := range l.Lines() {
		if strings.Contains(line.Text, text) {
			times = append(times, line.At)
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
