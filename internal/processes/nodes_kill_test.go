//go:build linux

package processes

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// nodeBound is how soon after the loss of a node the tunnels it had have to be
// served by the others.
const nodeBound = 15 * time.Second

// TestNodeLost (F11): a node is killed, or is silent all at once, as where its
// packets are dropped. Its tunnels are served by the others soon, and nobody else
// notices.
func TestNodeLost(t *testing.T) {
	needProcesses(t)
	for _, how := range []string{"killed", "silent"} {
		t.Run(how, func(t *testing.T) {
			if !long() {
				t.Parallel()
			}
			c := newCluster(t, pick(6, 12), clusterOptions{})
			silence := pick(0, 11*time.Second) // longer than clients wait for an answer
			var all, anew, thawed []time.Duration
			var requests, failed int64
			lived := 11 * time.Second
			if how == "silent" {
				lived -= silence / 2 // they have come within the first half of it
			}
			for round := range pick(1, 20) {
				if round > 0 {
					// A session that lives less than that is no end of the outage
					// before, and the client's waits go on growing.
					<-time.After(lived)
				}
				victim := c.holder(c.clients[round%len(c.clients)])
				survivors := c.others(victim)
				its, others := c.holders(victim)
				l := newLoad(t, urls(survivors, others))
				l.serial.Store(int64(round) << 20) // no two requests are called the same
				l.requests(pick(50, 100))
				// It has begun, and the clients' next pings are due sooner or later.
				<-time.After(500*time.Millisecond + rand.N(pick(time.Millisecond, 5*time.Second)))
				begun := time.Now()
				if how == "killed" {
					victim.kill()
				} else {
					victim.freeze()
				}
				var asking sync.WaitGroup
				var again []time.Duration
				asking.Go(func() { again = c.backWithin(begun, urls(survivors, its), nodeBound, time.Second) })
				all = append(all, c.back(begun, urls(survivors, its), nodeBound)...)
				asking.Wait()
				anew = append(anew, again...)
				l.stop()
				none(t, fmt.Sprintf("failures in round %d", round), l.failures)
				requests, failed = requests+l.done.Load(), failed+int64(len(l.failures))
				if how == "killed" {
					c.again(victim)
				} else {
					// Until the sessions that it had are over. Their clients would learn
					// from it otherwise that it is only slow at times, and wait longer.
					<-time.After(time.Until(begun.Add(silence)))
					victim.signal(syscall.SIGCONT)
					awake := time.Now()
					thawed = append(thawed, c.back(awake, urls([]*node{victim}, c.clients), nodeBound)...)
					c.lb.await(t, victim.addr)
				}
				c.whole(patience)
			}
			none(t, "requests that came twice", c.tg.twice())
			summary(t, "tunnels of the node were served by others after %v (median), %v at most, %d times; to those who did not wait longer than 1s and asked again after %v and %v; meanwhile %d requests to other tunnels, %d failed",
				ms(quantile(all, 0.5)), ms(quantile(all, 1)), len(all), ms(quantile(anew, 0.5)), ms(quantile(anew, 1)), requests, failed)
			if len(thawed) > 0 {
				summary(t, "when the node was awake again it served all after %v at most", ms(quantile(thawed, 1)))
			}
		})
	}
}

// TestNodesKilledOften (F11): nodes are killed a few seconds after each other, so that
// no session lives long. Their tunnels come back as soon as after a single loss.
func TestNodesKilledOften(t *testing.T) {
	needProcesses(t)
	needLong(t)
	c := newCluster(t, 12, clusterOptions{})
	var all []time.Duration
	var mu sync.Mutex
	var measuring sync.WaitGroup
	for range 20 {
		victim := c.nodes[rand.N(len(c.nodes))]
		its, _ := c.holders(victim)
		list := urls(c.others(victim), its)
		next := time.After(3*time.Second + rand.N(5*time.Second))
		begun := time.Now()
		victim.kill()
		measuring.Go(func() {
			took := c.back(begun, list, nodeBound)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
		c.again(victim)
		<-next
	}
	measuring.Wait()
	c.whole(nodeBound)
	none(t, "requests that came twice", c.tg.twice())
	summary(t, "tunnels of the node were served by others after %v (median), %v at most, %d times",
		ms(quantile(all, 0.5)), ms(quantile(all, 1)), len(all))
}
