//go:build linux

package processes

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
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

	resident := c.resident()
	begun := c.store.operations()
	started := time.Now()
	for _, nd := range c.nodes {
		crowd(t, nd, n)
	}
	took := time.Since(started)
	<-time.After(time.Second) // the last of them are announced
	registered := c.store.operations() - begun - int(beats*time.Since(started).Seconds())
	each := float64(registered) / float64(3*n)

	memory := (c.resident() - resident) / (3 * n)

	// Entries are put again every two minutes, the first time all within one.
	window = pick(window, 6*time.Minute)
	idle := (c.spent(window) - beats) / float64(3*n)

	started = time.Now()
	c.visible(n)
	seen := time.Since(started)

	holder := c.holder(c.clients[0])
	const requests = 1000
	begun, started = c.store.operations(), time.Now()
	for range requests {
		served(t, c.viewer, at(holder, c.clients[0]))
	}
	local := float64(c.store.operations()-begun) - (beats+idle*float64(3*n))*time.Since(started).Seconds()
	summary(t, "3 nodes without tunnels: %.1f store operations a second; a registration: %.2f (%d in %v); an idle tunnel: %.4f a second, and %.1f KiB of its node's memory; each node asked for each tunnel within %v; %d requests to a tunnel of the node: %.0f more than without",
		beats, each, 3*n, ms(took), idle, float64(memory)/1024, ms(seen), requests, local)
	if each > 2 {
		t.Errorf("a registration costs %.2f store operations", each)
	}
	if long() && idle > 0.01 { // a short window says nothing
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

// resident returns how many bytes of memory the nodes have in all.
func (c *cluster) resident() (bytes int) {
	c.t.Helper()
	for _, n := range c.nodes {
		pages, err := strconv.Atoi(stat(c.t, "/proc/"+strconv.Itoa(n.cmd.Process.Pid)+"/stat")[21]) // field 24 of proc(5): rss
		if err != nil {
			c.t.Fatal(err)
		}
		bytes += pages * os.Getpagesize()
	}
	return bytes
}

// visible asks each node for each of the tunnels that crowd has connected, n for each node.
func (c *cluster) visible(n int) {
	c.t.Helper()
	all := make(chan string)
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(c.t.Context(), 10*patience)
	defer cancel()
	for range 32 {
		wg.Go(func() {
			for url := range all {
				status, _, err := get(ctx, c.viewer, url)
				for status == http.StatusServiceUnavailable && ctx.Err() == nil { // too many look at a time
					status, _, err = get(ctx, c.viewer, url)
				}
				if status != http.StatusNoContent || err != nil {
					c.t.Errorf("%s: %d %v", url, status, err)
				}
			}
		})
	}
	for i := range n {
		for _, asked := range c.nodes {
			for _, holder := range c.nodes {
				all <- fmt.Sprintf("http://%s/%s-%d/", asked.addr, holder.name, i)
			}
		}
	}
	close(all)
	wg.Wait()
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
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
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
		wg.Go(func() { _ = client.Serve(ctx, h) })
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
