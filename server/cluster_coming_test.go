package server

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// slowStore is a Directory that takes its time for new entries while slow is set.
type slowStore struct {
	cluster.Directory
	slow atomic.Int64 // a duration
}

func (d *slowStore) Put(ctx context.Context, entries []cluster.Entry) ([]cluster.Outcome, error) {
	if wait := time.Duration(d.slow.Load()); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return d.Directory.Put(ctx, entries)
}

// listening makes the nodes believe what they hear of each other.
func listening(t *testing.T, nodes []*testService) {
	t.Helper()
	for _, s := range nodes {
		waitFor(t, func() bool {
			s.cluster.coming.mu.Lock()
			defer s.cluster.coming.mu.Unlock()
			for _, other := range s.cluster.coming.senders {
				other.since = time.Now().Add(-2 * comingLife)
			}
			return len(s.cluster.coming.senders) == len(nodes)-1
		})
		if !s.cluster.hearsAll() {
			t.Fatal("a node does not hear all others")
		}
	}
}

// TestAbsentAtOnce: where all nodes hear each other, an id that nobody has is absent at once;
// otherwise it waits for news.
func TestAbsentAtOnce(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 3, new(cluster.Memory), Config{})
	ask := func(id string) time.Duration {
		t.Helper()
		began := time.Now()
		if resp, _ := nodes[0].get("/" + id + "/"); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", id, resp.StatusCode)
		}
		return time.Since(began)
	}
	if took := ask("first"); took < newsWait {
		t.Errorf("with nodes of which nothing is known: %v", took)
	}
	listening(t, nodes)
	best := time.Hour
	for _, id := range []string{"one", "two", "three", "four"} {
		best = min(best, ask(id))
	}
	if best > newsWait/2 {
		t.Errorf("an absent id takes %v", best)
	}
	t.Logf("an absent id takes %v", best)
	for _, l := range nodes[1].links(nodes[0]) {
		l.tr.Close()
	}
	waitFor(t, func() bool { return !nodes[0].cluster.hearsAll() })
	if took := ask("last"); took < newsWait {
		t.Errorf("with a link that has gone: %v", took)
	}
}

// TestComing: a viewer that comes to another node as soon as a tunnel client knows its URL
// is served, however slow the client and the store are.
func TestComing(t *testing.T) {
	t.Parallel()
	d := &slowStore{Directory: new(cluster.Memory)}
	nodes := newNodes(t, 3, d, Config{})
	for i := range 3 {
		nodes[i].waitActive(nodes[i].connect("early-"+string(rune('a'+i)), echoHandler))
	}
	listening(t, nodes)
	d.slow.Store(int64(800 * time.Millisecond))
	for i, id := range []string{"slow-store", "slow-client"} {
		h := http.Header{"Authorization": {"Bearer " + mint(t, id)}, wire.HeaderID: {id}}
		c, _, err := nodes[i].dialWith(h) // the client has the 101 now
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.conn.Close() })
		var viewers sync.WaitGroup
		for _, s := range nodes {
			viewers.Go(func() {
				if resp, body := s.get("/" + id + "/"); resp.StatusCode != http.StatusOK {
					t.Errorf("%s by %s: %d %s", id, s.cluster.member.Name(), resp.StatusCode, body)
				}
			})
		}
		if id == "slow-client" {
			waitFor(t, func() bool { return nodes[2].cluster.coming.waitFor(labelOf(id)).After(time.Now()) })
			<-time.After(newsWait + 200*time.Millisecond)
		}
		c.serve(echoHandler)
		viewers.Wait()
	}
}

// TestComingIsBounded: what other nodes say is coming is forgotten, and is not kept without
// end; nonsense is ignored.
func TestComingIsBounded(t *testing.T) {
	var c coming
	c.come([]label{"a", "B/..", label(strings.Repeat("x", 64)), ""})
	if len(c.until) != 1 || c.waitFor("a").IsZero() || !c.waitFor("b").IsZero() {
		t.Errorf("%v", c.until)
	}
	c.until["a"] = time.Now().Add(-time.Second)
	if !c.waitFor("a").IsZero() || len(c.until) != 0 {
		t.Error("it is not forgotten")
	}
	many := make([]label, maxComingElsewhere+10)
	for i := range many {
		many[i] = labelOf(time.Duration(i).String())
	}
	c.come(many)
	if len(c.until) != maxComingElsewhere {
		t.Errorf("%d are kept", len(c.until))
	}
	end := c.begin("a boot coming")
	c.senders["boot"].since = time.Now().Add(-2 * comingLife)
	if c.hears("boot") {
		t.Error("what there was no room for counts as absent")
	}
	if c.missed = time.Now().Add(-time.Second); !c.hears("boot") {
		t.Error("an absent id waits, although all that was missed is over")
	}
	end()
	for l := range c.until {
		c.until[l] = time.Now().Add(-time.Second)
	}
	c.come([]label{"later"})
	if len(c.until) != 1 {
		t.Errorf("%d are left", len(c.until))
	}
	for from, counts := range map[string]bool{"": false, "a": false, "a boot": false, "a boot coming": true, "a boot coming later": true, "a boot other": false} {
		end := c.begin(from)
		if c.senders["boot"] != nil != counts || c.hears("boot") {
			t.Errorf("%q: %v", from, c.senders)
		}
		end()
		if len(c.senders) != 0 {
			t.Errorf("%q is kept", from)
		}
	}
}
