//go:build linux

package processes

import (
	"syscall"
	"testing"
	"time"
)

// TestNodesRestart (F4): three nodes are restarted one after the other behind a
// balancer, again and again, and no viewer notices.
func TestNodesRestart(t *testing.T) {
	needProcesses(t)
	c := newCluster(t, 6, clusterOptions{})
	through := make([]string, len(c.clients))
	for i, cl := range c.clients {
		through[i] = cl.url
	}
	l := newLoad(t, through)
	l.requests(pick(50, 200))
	for range pick(10, 50) {
		l.always(l.websocket)
	}
	for range pick(2, 5) {
		l.always(l.upload)
	}
	<-time.After(pick(500*time.Millisecond, 2*time.Second)) // every kind of load has begun
	restarts := 0
	var longest time.Duration
	for range pick(1, 20) {
		for _, n := range c.nodes {
			begun := time.Now()
			n.signal(syscall.SIGTERM)
			n.exits(0, 40*time.Second)
			longest = max(longest, time.Since(begun))
			c.again(n)
			restarts++
		}
	}
	l.stop()
	summary(t, "%d restarts of a node, longest drain %v; %s", restarts, ms(longest), l.report(t))
	none(t, "requests that came twice", c.tg.twice())
	if n := l.cut.Load(); n != 0 {
		t.Errorf("%d websockets were cut although they would have ended within the drain timeout", n)
	}
	if l.echoes.Load() == 0 || l.uploads.Load() == 0 {
		t.Error("there was no load")
	}
}
