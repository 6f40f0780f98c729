//go:build linux

package processes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// TestAbsentFlood: viewers who ask one node for ids that nobody has, as many as it
// answers, cost the store a bounded rate, and a tunnel beside them little.
func TestAbsentFlood(t *testing.T) {
	needProcesses(t)
	c := newCluster(t, 3, clusterOptions{env: []string{"STARTUP_WAIT=off"}})
	flooded := c.nodes[0]
	its, _ := c.holders(flooded)
	if len(its) == 0 {
		t.Fatal("the node has no tunnel")
	}
	neighbour := at(flooded, its[0])
	window := pick(3*time.Second, 30*time.Second)
	measure := func() time.Duration {
		stop := probe(t, newViewer(t, here), neighbour, 5*time.Millisecond)
		<-time.After(window)
		took, failed := stop()
		none(t, "failures of a neighbour", failed)
		return quantile(took, 0.99)
	}
	before := measure()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var asked, serial atomic.Int64
	var mu sync.Mutex
	statuses := make(map[int]int)
	// So many a second in all: with more there is nothing left of this machine for
	// the neighbour, with one node or with several.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	work := make(chan int, 1000)
	viewer := newViewer(t, here)
	for range 1000 {
		wg.Go(func() {
			for range work {
				status, _, _ := get(ctx, viewer, "http://"+flooded.addr+"/absent-"+strconv.FormatInt(serial.Add(1), 10)+"/")
				if ctx.Err() != nil {
					continue
				}
				asked.Add(1)
				mu.Lock()
				statuses[status]++
				mu.Unlock()
			}
		})
	}
	wg.Go(func() {
		defer close(work)
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			for range 20 {
				select {
				case work <- 0:
				default:
				}
			}
		}
	})
	begun, at := c.store.operations(), time.Now()
	during := measure()
	seconds := time.Since(at).Seconds()
	operations := float64(c.store.operations()-begun) / seconds
	rate := float64(asked.Load()) / seconds
	cancel()
	wg.Wait()
	summary(t, "%.0f absent ids a second at one node: %.0f store operations a second in all; p99 of a neighbour %v (%v before); answers by status: %v", rate, operations, during, before, statuses)
	if operations > 1000 {
		t.Errorf("the store has had %.0f operations a second", operations)
	}
	if statuses[200] != 0 {
		t.Errorf("an absent id was served: %v", statuses)
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
