//go:build linux

package processes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// TestNodesSplit (F13): a tunnel client is connected twice, to two nodes that
// cannot hear of each other, since one of them is cut off from the store, from the
// other nodes, or from both. Each request is delivered to one of the two, once;
// and when they hear each other again, all nodes send to the same.
func TestNodesSplit(t *testing.T) {
	needProcesses(t)
	c := newCluster(t, 1, clusterOptions{gates: true, env: []string{"STARTUP_WAIT=off"}})
	other := newTarget(t, here, "127.0.0.1")
	statuses := make(map[int]int)
	var toFirst, toSecond int
	var agreed []time.Duration
	for round := range pick(1, 20) {
		id := fmt.Sprint("split-", round)
		first, second := c.nodes[round%3], c.nodes[(round+1)%3]
		cl := startClient(t, here, "http://"+first.addr, id, c.tg.addr)
		c.back(time.Now(), urls(c.nodes, []*tunnelClient{cl}), patience)

		split := newSplit(first, second, round)
		split.begin()
		posts := startPosts(t, urls(c.nodes, []*tunnelClient{cl}))
		<-time.After(rand.N(time.Second))
		newer := startClient(t, here, "http://"+second.addr, id, other.addr)
		<-time.After(pick(2*time.Second, 12*time.Second))
		split.end()
		mended := time.Now()
		agreed = append(agreed, c.agree(t, cl, other, mended))
		for query, answer := range posts() {
			statuses[answer.status]++
			a, b := c.tg.times(query), other.times(query)
			toFirst, toSecond = toFirst+a, toSecond+b
			if a+b > 1 || answer.status == 200 && a+b != 1 {
				t.Errorf("round %d, %s: a request that got %d was delivered %d times to one and %d times to the other", round, split.what, answer.status, a, b)
			}
			if answer.status == 404 {
				t.Errorf("round %d, %s: 404 for a tunnel that was there", round, split.what)
			}
		}
		cl.kill()
		newer.kill()
	}
	if statuses[200] == 0 {
		t.Error("there was no load")
	}
	summary(t, "%d splits; POSTs by status: %v; %d delivered to one client and %d to the other; all nodes agreed %v (median) and %v (at most) after it was mended",
		len(agreed), statuses, toFirst, toSecond, ms(quantile(agreed, 0.5)), ms(quantile(agreed, 1)))
}

// split is a partition of a cluster.
type split struct {
	what  string
	gates []*faultnet.Relay
	drop  bool // packets are dropped; otherwise connections are reset and refused
}

// newSplit returns the partition of a round: each kind has its turn.
func newSplit(first, second *node, round int) *split {
	s := &split{drop: round/3%2 == 1}
	switch round % 3 {
	case 0:
		s.what, s.gates = "the first cut off from the store, and both from the nodes", []*faultnet.Relay{first.storage, first.links, second.links}
	case 1:
		s.what, s.gates = "the first cut off from the store", []*faultnet.Relay{first.storage}
	case 2:
		s.what, s.gates = "the second cut off from the store", []*faultnet.Relay{second.storage}
	}
	return s
}

func (s *split) begin() {
	for _, gate := range s.gates {
		gate.Refuse(true)
		if !s.drop {
			gate.ResetAll()
			continue
		}
		for _, l := range gate.Links() {
			l.HalfOpen()
		}
	}
}

// end lets new connections through. Those that were cut stay so.
func (s *split) end() {
	for _, gate := range s.gates {
		gate.ResetAll()
		gate.Refuse(false)
	}
}

// times returns how often a POST request has come.
func (tg *target) times(query string) int {
	tg.mu.Lock()
	defer tg.mu.Unlock()
	return tg.seen[query]
}

// agree waits until all nodes send the requests of a tunnel to the same target, and
// returns how long after a time that is so.
func (c *cluster) agree(t *testing.T, cl *tunnelClient, other *target, since time.Time) time.Duration {
	t.Helper()
	for n := 0; ; n++ {
		here, there, failed := 0, 0, 0
		for i, nd := range c.nodes {
			query := fmt.Sprintf("%s-agree-%d-%d", cl.id, n, i)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			status, _, err := post(ctx, c.viewer, at(nd, cl), query)
			cancel()
			switch {
			case status != 200 || err != nil:
				failed++
			case c.tg.times(query) == 1:
				here++
			case other.times(query) == 1:
				there++
			}
		}
		took := time.Since(since)
		if failed == 0 && (here == len(c.nodes) || there == len(c.nodes)) {
			return took
		}
		if took > storeBound {
			t.Errorf("%s: after %v, of 3 nodes %d send to one target and %d to the other", cl.id, ms(took), here, there)
			return took
		}
		<-time.After(100 * time.Millisecond)
	}
}

func post(ctx context.Context, viewer *http.Client, url, query string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/hash?"+query, strings.NewReader(query))
	if err != nil {
		return 0, "", err
	}
	return do(viewer, req)
}

// startPosts sends POST requests, each to one of the URLs and with a query that no
// other has, until the function that it returns is called: that waits for the answers,
// and returns them by query.
func startPosts(t *testing.T, urls []string) func() map[string]*exchange {
	ctx, end := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := make(map[string]*exchange)
	viewer := newViewer(t, here)
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			url := urls[n%len(urls)]
			query := strings.ReplaceAll(strings.TrimPrefix(url, "http://"), "/", "-") + fmt.Sprint("-", n)
			wg.Go(func() {
				attempt, cancel := context.WithTimeout(context.Background(), 2*patience)
				defer cancel()
				e := &exchange{}
				e.status, e.body, e.err = post(attempt, viewer, url, query)
				mu.Lock()
				defer mu.Unlock()
				answers[query] = e
			})
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	stop := func() map[string]*exchange {
		end()
		wg.Wait()
		return answers
	}
	t.Cleanup(func() { stop() })
	return stop
}
