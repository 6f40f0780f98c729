//go:build linux

package processes

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// node is a running websocktunnel that is one of several.
type node struct {
	*service
	name    string
	opts    serviceOptions
	links   *faultnet.Relay // through which other nodes reach it; nil: directly
	storage *faultnet.Relay // through which it reaches the store; nil: directly
}

// cluster is three nodes behind a balancer, with their store and clients.
type cluster struct {
	t       *testing.T
	store   *store
	nodes   []*node
	lb      *balancer
	tg      *target
	clients []*tunnelClient
	viewer  *http.Client
}

// clusterOptions is how a cluster is started. The zero value has its nodes joined
// by nothing that can be cut.
type clusterOptions struct {
	gates bool // nodes reach each other and the store through relays
	env   []string
	store string // CLUSTER_REDIS; "": that of a store of its own
}

// newCluster starts three nodes, and waits until each of them knows the others. The second
// one is of another version if WST_OTHER_BIN names a directory with its commands: nodes of
// neighbouring versions have to work together.
func newCluster(t *testing.T, clients int, opts clusterOptions) *cluster {
	t.Helper()
	c := &cluster{t: t, tg: newTarget(t, here, "127.0.0.1"), viewer: newViewer(t, here)}
	url := opts.store
	if url == "" {
		c.store = startStore(t, newAddr())
		url = "redis://" + c.store.addr
	}
	addrs := []string{newAddr(), newAddr(), newAddr()}
	c.lb = newBalancer(t, addrs...)
	for i, addr := range addrs {
		n := &node{name: string(rune('a' + i))}
		ip, _, _ := net.SplitHostPort(addr)
		listen := net.JoinHostPort(ip, "7443")
		redis, advertise := url, listen
		if opts.gates {
			n.links, n.storage = newGate(t, listen), newGate(t, c.store.addr)
			redis, advertise = "redis://"+n.storage.Addr(), n.links.Addr()
		}
		n.opts = serviceOptions{url: "http://" + c.lb.addr, env: append([]string{
			"CLUSTER_REDIS=" + redis, "CLUSTER_NODE=" + n.name, "CLUSTER_LISTEN=" + listen, "CLUSTER_ADVERTISE=" + advertise,
			"CLUSTER_SECRET_A=a secret of the nodes alone", "STARTUP_WAIT=20s", "DRAIN_DELAY=500ms", "DRAIN_TIMEOUT=30s",
		}, opts.env...)}
		if other := os.Getenv("WST_OTHER_BIN"); other != "" && i%2 == 1 {
			n.opts.bin = filepath.Join(other, "websocktunnel")
		}
		n.service = startService(t, addr, n.opts)
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		c.meets(n)
		c.lb.await(t, n.addr)
	}
	c.clients = startClients(t, here, "http://"+c.lb.addr, clients, c.tg.addr)
	c.whole(patience)
	return c
}

func newGate(t *testing.T, to string) *faultnet.Relay {
	t.Helper()
	gate, err := faultnet.NewRelay(to, faultnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gate.Close() })
	return gate
}

// meets waits until n knows the others.
func (c *cluster) meets(n *node) {
	c.t.Helper()
	for _, other := range c.nodes {
		if other != n {
			n.says(0, `node of the cluster .*other=`+other.name+` state=up`, patience)
		}
	}
}

// again starts a node that has ended.
func (c *cluster) again(n *node) {
	c.t.Helper()
	n.service = startService(c.t, n.addr, n.opts)
	c.meets(n)
	c.lb.await(c.t, n.addr)
}

// at returns the URL of a client's tunnel at a node.
func at(n *node, cl *tunnelClient) string { return "http://" + n.addr + "/" + cl.id }

// urls returns the URLs of tunnels at nodes.
func urls(nodes []*node, clients []*tunnelClient) (list []string) {
	for _, n := range nodes {
		for _, cl := range clients {
			list = append(list, at(n, cl))
		}
	}
	return list
}

// whole waits until each node serves each tunnel, and returns how long that has
// taken.
func (c *cluster) whole(within time.Duration) time.Duration {
	c.t.Helper()
	begun := time.Now()
	list := c.back(begun, urls(c.nodes, c.clients), within)
	return slices.Max(append(list, 0))
}

// back returns how long after a time each URL is served again, to a viewer who waits
// for each answer.
func (c *cluster) back(since time.Time, urls []string, within time.Duration) []time.Duration {
	c.t.Helper()
	return c.backWithin(since, urls, within, patience)
}

// backWithin is back for a viewer who waits only so long for an answer, and asks again.
func (c *cluster) backWithin(since time.Time, urls []string, within, attempt time.Duration) []time.Duration {
	c.t.Helper()
	took := make([]time.Duration, len(urls))
	list := make([]*exchange, len(urls))
	ctx, cancel := context.WithTimeout(c.t.Context(), within+5*time.Second)
	defer cancel()
	for i, url := range urls {
		list[i] = inBackground(url, func() (status int, body string, err error) {
			for {
				one, cancel := context.WithTimeout(ctx, attempt)
				status, body, err = get(one, c.viewer, url+"/echo?"+url)
				cancel()
				if status == 200 && body == url {
					return status, "", nil
				}
				select {
				case <-ctx.Done():
					return status, body, err
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	for i, e := range list {
		<-e.done
		took[i] = e.at.Sub(since)
		if e.status != 200 || e.err != nil || took[i] > within {
			c.t.Errorf("%s after %v: %d %q %v", e.name, ms(took[i]), e.status, tail(e.body, 200), e.err)
		}
	}
	return took
}

// answer waits until each URL is answered with a status, and returns how long after a
// time that is so.
func (c *cluster) answer(status int, urls []string, since time.Time, within time.Duration) time.Duration {
	c.t.Helper()
	ctx, cancel := context.WithDeadline(c.t.Context(), since.Add(within))
	defer cancel()
	var wg sync.WaitGroup
	for _, url := range urls {
		wg.Go(func() {
			for {
				got, _, err := get(ctx, c.viewer, url+"/")
				if got == status && err == nil {
					return
				}
				select {
				case <-ctx.Done():
					c.t.Errorf("%s after %v: %d %v, want %d", url, ms(time.Since(since)), got, err, status)
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
	return time.Since(since)
}

// holders returns the clients whose newest session is at n, and the others.
func (c *cluster) holders(n *node) (its, others []*tunnelClient) {
	c.t.Helper()
	for _, cl := range c.clients {
		if c.holder(cl) == n {
			its = append(its, cl)
		} else {
			others = append(others, cl)
		}
	}
	return its, others
}

// holder returns the node that has registered a client last.
func (c *cluster) holder(cl *tunnelClient) (holder *node) {
	var last time.Time
	re := regexp.MustCompile(`event=registered .*\bid=` + cl.id + ` `)
	for _, n := range c.nodes {
		for _, ln := range n.log.Lines() {
			if re.MatchString(ln.Text) && ln.At.After(last) {
				holder, last = n, ln.At
			}
		}
	}
	return holder
}

// others returns the nodes without n.
func (c *cluster) others(n *node) []*node {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(other *node) bool { return other == n })
}

// sessions returns how many there have been of all clients.
func (c *cluster) sessions() (n int) {
	for _, cl := range c.clients {
		n += cl.sessions()
	}
	return n
}

// report returns what a load has come to, and fails the test for what has failed.
func (l *load) report(t testing.TB) string {
	none(t, "failures", l.failures)
	if l.done.Load() == 0 {
		t.Error("there was no load")
	}
	return fmt.Sprintf("%d requests (slowest %v), %d websockets with %d echoes (%d cut), %d uploads, %d failed", l.done.Load(),
		ms(time.Duration(l.slowest.Load())), l.websockets.Load(), l.echoes.Load(), l.cut.Load(), l.uploads.Load(), len(l.failures))
}
