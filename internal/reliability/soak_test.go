package reliability

import (
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// TestSoak covers what F1, F2, F5, F6, F15 and F17 leave behind when they go on
// for long, over real sockets: goroutines, file descriptors and live heap come
// back to where they were. Its figures come from
//
//	WST_LONG=1 go test -tags http2legacy -run TestSoak -v -timeout 1h ./internal/reliability
//
// which takes 30 minutes, or WST_SOAK, such as 2m.
func TestSoak(t *testing.T) {
	noLeaks(t)
	d := setting(t, "WST_SOAK", pick(3*time.Second, 30*time.Minute))
	n := seed(t)
	s := newTCPService(t, campaignConfig)
	s.relayTunnels(faultnet.Options{Seed: n})
	c := newCampaign(t, s, n, 8, 3)

	// Once without faults: what is made once is there before the measurement.
	c.faults, c.pause = []fault{{name: "none", weight: 1, inject: func(*tunnel) {}}}, 100*time.Millisecond
	time.AfterFunc(min(d/3, 5*time.Second), c.finish)
	c.run()
	clear(c.injected)
	before := c.quiet()

	// Those of a viewer's connection are for networks in memory.
	c.faults, c.pause = nil, 2*time.Second
	for _, f := range allFaults {
		if !f.viewers {
			c.faults = append(c.faults, f)
		}
	}
	c.total = 0
	time.AfterFunc(d, c.finish)
	c.run()

	// The heap holds the campaign's own records too.
	var after figures
	ok := tunneltest.Poll(30*time.Second, func() bool {
		after = c.quiet()
		return after.goroutines <= before.goroutines+5 && after.fds <= before.fds+5 && after.heap <= before.heap+8<<20
	})
	t.Logf("before: %d goroutines, %d file descriptors, %.1f MiB live; after %v: %d, %d, %.1f MiB",
		before.goroutines, before.fds, float64(before.heap)/(1<<20), d, after.goroutines, after.fds, float64(after.heap)/(1<<20))
	if !ok {
		t.Error("that has not come back to where it was")
	}
	c.end()
}

// figures are what leaks show in.
type figures struct {
	goroutines, fds int
	heap            uint64 // live bytes
}

// quiet closes what is idle at the targets and measures.
func (c *campaign) quiet() figures {
	c.handler.(interface{ CloseIdleConnections() }).CloseIdleConnections()
	tunneltest.Poll(20*time.Second, func() bool { return c.service.InFlight() == 0 && c.service.count() == len(c.tunnels) })
	c.target.forget()
	<-time.After(100 * time.Millisecond) // for what has just been closed
	return measure()
}

func measure() figures {
	runtime.GC()
	runtime.GC() // what was in a sync.Pool survives the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f := figures{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
	if entries, err := os.ReadDir("/proc/self/fd"); err == nil { // Linux
		f.fds = len(entries)
	}
	return f
}
