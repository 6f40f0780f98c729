//go:build linux

package processes

import (
	"slices"
	"testing"
	"time"
)

// TestNodesApart (F13): two nodes cannot be reached by other nodes, but reach the store,
// the third node and their clients. Only requests that would go to them from another
// node fail, and never as if there were no tunnel.
func TestNodesApart(t *testing.T) {
	needProcesses(t)
	for _, drop := range []bool{false, true} {
		name := "reset"
		if drop {
			name = "dropped"
		}
		t.Run(name, func(t *testing.T) {
			if !long() {
				t.Parallel()
			}
			c := newCluster(t, 0, clusterOptions{gates: true, env: []string{"STARTUP_WAIT=off"}})
			first, second, third := c.nodes[0], c.nodes[1], c.nodes[2]
			var its [3][]*tunnelClient
			for i, n := range c.nodes {
				its[i] = []*tunnelClient{startClient(t, here, "http://"+n.addr, "of-"+n.name, c.tg.addr)}
				c.clients = append(c.clients, its[i]...)
			}
			c.whole(patience)
			split := &split{gates: slices.Clone(newSplit(first, second, 0).gates[1:]), drop: drop}
			for round := range pick(1, 5) {
				sessions := c.sessions()
				l := newLoad(t, slices.Concat(urls(c.nodes, its[2]), urls([]*node{first}, its[0]), urls([]*node{second}, its[1])))
				l.serial.Store(int64(round) << 20) // no two requests are called the same
				l.requests(pick(50, 100))
				l.always(l.websocket)
				l.always(l.upload)
				<-time.After(500 * time.Millisecond) // it has begun
				split.begin()
				cut := watchStatus(t, c, slices.Concat(urls([]*node{second, third}, its[0]), urls([]*node{first, third}, its[1])))
				nowhere := watchStatus(t, c, urls(c.nodes, []*tunnelClient{{id: "nowhere"}}))
				// A request waits for 10 s for its tunnel to come to another node, and on a
				// link that is silent for as long before.
				<-time.After(pick(12*time.Second, 30*time.Second))
				answers := cut()
				split.end()
				whole := c.whole(nodeBound)
				l.stop()
				only(t, "a tunnel that the node could not reach", answers, 502, 503) // 502: it was on its way
				absent := nowhere()
				only(t, "an id that is nowhere", absent, 404, 503) // 503: the store was slow to answer
				if absent[404] == 0 {
					t.Errorf("no id that is nowhere got 404: %v", absent)
				}
				if answers[503] == 0 && (long() || !drop) {
					t.Errorf("no request has failed, though its node cannot be reached: %v", answers)
				}
				if n := c.sessions() - sessions; n != 0 {
					t.Errorf("there were %d new sessions: tunnels were lost", n)
				}
				summary(t, "answers for tunnels of nodes that could not be reached: %v; all served by all %v after the end; the others: %s", answers, ms(whole), l.report(t))
			}
			none(t, "requests that came twice", c.tg.twice())
		})
	}
}
