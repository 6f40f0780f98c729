//go:build linux

package processes

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// storeBound is how soon after the store is well again the cluster has to know
// everything.
const storeBound = 30 * time.Second

// TestStoreFails (F12): whatever happens to the store, no tunnel is lost, nothing
// fails that is at the node asked or known there, and no node says that a tunnel
// which is there is not.
func TestStoreFails(t *testing.T) {
	needProcesses(t)
	away := pick(5*time.Second, time.Minute)
	for _, fault := range []struct {
		name string
		fail func(c *cluster)
		mend func(c *cluster) // nil: it is over at once
	}{
		{
			"stands still",
			func(c *cluster) { c.store.freeze() },
			func(c *cluster) { c.store.signal(syscall.SIGCONT) },
		},
		{
			"is restarted empty",
			func(c *cluster) { c.store.kill() },
			func(c *cluster) { c.store.again() },
		},
		{
			"forgets everything",
			func(c *cluster) { c.store.do("FLUSHALL") },
			nil,
		},
		{
			"is slow",
			func(c *cluster) {
				for _, n := range c.nodes {
					slow(n.storage, time.Second)
				}
			},
			func(c *cluster) {
				for _, n := range c.nodes {
					slow(n.storage, 0)
				}
			},
		},
	} {
		t.Run(fault.name, func(t *testing.T) {
			if !long() {
				t.Parallel()
			}
			c := newCluster(t, 6, clusterOptions{gates: true, env: []string{"STARTUP_WAIT=off"}})
			// One node comes while the store is away, and so knows of no tunnel.
			fresh, knowing := c.nodes[2], c.nodes[:2]
			if fault.mend == nil {
				knowing = c.nodes
			} else {
				fresh.signal(syscall.SIGTERM)
				fresh.exits(0, patience)
				c.back(time.Now(), urls(knowing, c.clients), patience)
			}
			sessions := c.sessions()

			l := newLoad(t, urls(knowing, c.clients))
			l.requests(pick(50, 100))
			l.always(l.websocket)
			l.always(l.upload)
			nowhere := watchStatus(t, c, urls(knowing, []*tunnelClient{{id: "nowhere"}}))
			<-time.After(time.Second)
			fault.fail(c)
			unknown := func() map[int]int { return nil }
			if fault.mend != nil {
				fresh.service = startService(t, fresh.addr, fresh.opts)
				unknown = watchStatus(t, c, urls([]*node{fresh}, c.clients))
				<-time.After(away)
				late := startClient(t, here, "http://"+knowing[0].addr, "late", c.tg.addr)
				served(t, c.viewer, at(knowing[0], late))
				fault.mend(c)
				c.clients = append(c.clients, late)
			}
			mended := time.Now()
			whole := c.whole(storeBound)
			settled := c.answer(404, []string{"http://" + c.nodes[0].addr + "/nowhere"}, mended, storeBound)
			l.stop()
			only(t, "a tunnel of which the node could not know", unknown(), 200, 503)
			only(t, "an id that is nowhere", nowhere(), 404, 503)
			if n := c.sessions() - sessions; fault.mend != nil && n != 1 || fault.mend == nil && n != 0 {
				t.Errorf("there were %d new sessions: tunnels were lost", n)
			}
			for _, n := range c.nodes {
				if status, _, err := get(t.Context(), c.viewer, "http://"+n.addr+"/__heartbeat__"); status != 200 {
					t.Errorf("node %s: %d %v", n.name, status, err)
				}
			}
			summary(t, "all tunnels served by all nodes %v after the store's return, absent ids 404 after %v; %s; answers for tunnels that the node could not know: %v; for ids that are nowhere: %v",
				ms(whole), ms(settled), l.report(t), unknown(), nowhere())
			none(t, "requests that came twice", c.tg.twice())
		})
	}
}

// slow has an answer through a gate take so long.
func slow(gate *faultnet.Relay, by time.Duration) {
	f := faultnet.Faults{Delay: by / 2}
	gate.SetFaults(f, f)
	for _, l := range gate.Links() {
		l.Up.Set(f)
		l.Down.Set(f)
	}
}

// watchStatus asks for URLs, each four times a second, and returns a function
// that ends it and tells how often there was each status: 0 is an error.
func watchStatus(t *testing.T, c *cluster, urls []string) func() map[int]int {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := make(map[int]int)
	for _, url := range urls {
		wg.Go(func() {
			for ctx.Err() == nil {
				status, _, _ := get(ctx, c.viewer, url+"/echo?x")
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				count[status]++
				mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(250 * time.Millisecond):
				}
			}
		})
	}
	stop := func() map[int]int {
		cancel()
		wg.Wait()
		return count
	}
	t.Cleanup(func() { stop() })
	return stop
}

// only fails the test if there was another status.
func only(t *testing.T, what string, count map[int]int, allowed ...int) {
	t.Helper()
	for status, n := range count {
		if !slices.Contains(allowed, status) {
			t.Errorf("%s got %d, %d times", what, status, n)
		}
	}
}
