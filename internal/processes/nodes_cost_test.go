//go:build linux

package processes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestStoreCost measures what several nodes ask of their store: for a tunnel that
// connects, for one that is idle, and for a request to a tunnel that the node has.
func TestStoreCost(t *testing.T) {
	needProcesses(t)
	c := newCluster(t, 1, clusterOptions{env: []string{"STARTUP_WAIT=off"}})
	n := pick(200, 3000) // at each node
	// What nodes cost without tunnels.
	window := pick(9*time.Second, 2*time.Minute)
	beats := c.spent(window)

	begun := c.store.operations()
	started := time.Now()
	for _, nd := range c.nodes {
		crowd(t, nd, n)
	}
	took := time.Since(started)
	<-time.After(time.Second) // the last of them are announced
	registered := c.store.operations() - begun - int(beats*time.Since(started).Seconds())
	each := float64(registered) / float64(3*n)

	idle := (c.spent(window) - beats) / float64(3*n)

	holder := c.holder(c.clients[0])
	const requests = 1000
	begun, started = c.store.operations(), time.Now()
	for range requests {
		served(t, c.viewer, at(holder, c.clients[0]))
	}
	local := float64(c.store.operations()-begun) - (beats+idle*float64(3*n))*time.Since(started).Seconds()
	summary(t, "3 nodes without tunnels: %.1f store operations a second; a registration: %.2f (%d in %v); an idle tunnel: %.4f a second; %d requests to a tunnel of the node: %.0f more than without",
		beats, each, 3*n, ms(took), idle, requests, local)
	if each > 2 {
		t.Errorf("a registration costs %.2f store operations", each)
	}
	if window > time.Minute && idle > 0.01 { // entries are put again every two minutes: a short window says nothing
		t.Errorf("an idle tunnel costs %.4f store operations a second", idle)
	}
	if local > requests/20 { // what nodes say of themselves comes in bursts
		t.Errorf("%d local requests cost %.0f store operations", requests, local)
	}
}

// spent returns the store's operations a second, over a while.
func (c *cluster) spent(over time.Duration) float64 {
	c.t.Helper()
	begun, at := c.store.operations(), time.Now()
	<-time.After(over)
	return float64(c.store.operations()-begun) / time.Since(at).Seconds()
}

// crowd connects n tunnels to a node, whose clients are in this process, and waits
// until they are there.
func crowd(t *testing.T, nd *node, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg, connecting sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	turn := make(chan struct{}, 32)
	for i := range n {
		id := fmt.Sprintf("%s-%d", nd.name, i)
		connected := make(chan struct{})
		once := sync.OnceFunc(func() { close(connected) })
		client, err := tunnelclient.New(tunnelclient.Config{
			ServerURL: "http://" + nd.addr, ID: id, Tokens: tunnelclient.StaticToken(tunneltest.Token(t, id)),
			OnStateChange: func(st tunnelclient.State) {
				if st.Phase == tunnelclient.PhaseConnected {
					once()
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		turn <- struct{}{}
		wg.Go(func() { _ = client.Serve(ctx, http.NotFoundHandler()) })
		connecting.Go(func() {
			defer func() { <-turn }()
			select {
			case <-connected:
			case <-time.After(patience):
				t.Errorf("%s does not connect", id)
			}
		})
	}
	connecting.Wait()
}

// TestAbsentFlood: viewers who ask one node for ids that nobody has, 20,000 a second,
// cost the store a bounded rate, and a tunnel beside them no more than the same viewers
// cost one of a service that is alone.
func TestAbsentFlood(t *testing.T) {
	needProcesses(t)
	window := pick(3*time.Second, 20*time.Second)
	measure := func(addr string, cl *tunnelClient) (time.Duration, floodResult) {
		wait := startFlood(t, floodSettings{Addr: addr, PerSecond: pick(2000, 20_000), Conns: pick(400, 4000), Time: window + time.Second})
		<-time.After(time.Second) // it has begun
		stop := probe(t, newViewer(t, here), "http://"+addr+"/"+cl.id, 5*time.Millisecond)
		<-time.After(window - time.Second)
		took, failed := stop()
		none(t, "failures of a neighbour", failed)
		return quantile(took, 0.99), wait()
	}
	single := startService(t, newAddr(), serviceOptions{env: []string{"STARTUP_WAIT=off"}})
	tg := newTarget(t, here, "127.0.0.1")
	alone, answered := measure(single.addr, startClient(t, here, "http://"+single.addr, "alone", tg.addr))
	single.kill()

	c := newCluster(t, 3, clusterOptions{env: []string{"STARTUP_WAIT=off"}})
	flooded := c.nodes[0]
	its, _ := c.holders(flooded)
	if len(its) == 0 {
		t.Fatal("the node has no tunnel")
	}
	begun, at := c.store.operations(), time.Now()
	several, r := measure(flooded.addr, its[0])
	operations := float64(c.store.operations()-begun) / time.Since(at).Seconds()
	summary(t, "%d absent ids asked of one node in %v: %.0f store operations a second in all; p99 of a neighbour %v, answers by status: %v; of a service that is alone %d, p99 %v, %v",
		r.Sent, window, operations, several, r.Statuses, answered.Sent, alone, answered.Statuses)
	if operations > 1000 {
		t.Errorf("the store has had %.0f operations a second", operations)
	}
	if limit := max(alone*5/4, alone+5*time.Millisecond); long() && several > limit {
		t.Errorf("the p99 of a neighbour is %v, more than %v", several, limit)
	}
	if r.Statuses["200"] != 0 {
		t.Errorf("an absent id was served: %v", r.Statuses)
	}
}

// operations returns how many commands clients have sent to the store since the first
// call. What a script does is one.
func (s *store) operations() int {
	s.t.Helper()
	s.counting.Do(func() {
		c, err := net.DialTimeout("tcp", s.addr, patience)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := io.WriteString(c, "MONITOR\r\n"); err != nil {
			s.t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			lines := bufio.NewScanner(c)
			lines.Buffer(nil, 1<<20)
			for lines.Scan() {
				if !strings.Contains(lines.Text(), " lua] ") {
					s.sent.Add(1)
				}
			}
		})
		s.t.Cleanup(func() {
			c.Close()
			wg.Wait()
		})
	})
	return int(s.sent.Load())
}
