package server

import (
	"flag"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// TestMain lets more tests run side by side than there are processors, unless go test is
// told how many: those that are parallel here wait for most of their time. Sockets are
// read and written as the commands do.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(max(5, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	netconn.AllowRaw(true)
	goleak.VerifyTestMain(m)
}
