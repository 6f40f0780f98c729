package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// pairedDirectory is what one node sees of a directory: it reaches each other node by an
// address of their own, so that a single pair of nodes can be cut from each other.
type pairedDirectory struct {
	cluster.Directory
	keys *cluster.Keys

	mu    sync.Mutex
	addrs map[string]string // by node
}

func (d *pairedDirectory) paired(n cluster.Node) cluster.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	if addr := d.addrs[n.Name]; addr != "" {
		n.Addr = addr
		d.keys.SignNode(&n)
	}
	return n
}

func (d *pairedDirectory) Nodes(ctx context.Context) ([]cluster.Node, error) {
	list, err := d.Directory.Nodes(ctx)
	for i := range list {
		list[i] = d.paired(list[i])
	}
	return list, err
}

func (d *pairedDirectory) Watch(ctx context.Context, f func(cluster.Event)) error {
	return d.Directory.Watch(ctx, func(e cluster.Event) {
		if e.Node.Name != "" {
			e.Node = d.paired(e.Node)
		}
		f(e)
	})
}

// newPairedNodes is newNodes where each node reaches each other one through a relay.
func newPairedNodes(t *testing.T, names ...string) (nodes []*testService, relay func(from, to int) *faultnet.Relay) {
	t.Helper()
	store := new(cluster.Memory)
	keys, err := cluster.NewKeys(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	relays := make(map[[2]int]*faultnet.Relay)
	listeners := make([]net.Listener, len(names))
	for i := range names {
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range names {
		d := &pairedDirectory{Directory: store, keys: keys, addrs: make(map[string]string)}
		for j, other := range names {
			if i == j {
				continue
			}
			r, err := faultnet.NewRelay(listeners[j].Addr().String(), faultnet.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			relays[[2]int{i, j}], d.addrs[other] = r, r.Addr()
		}
		s := newService(t, Config{Cluster: &ClusterConfig{Directory: d, Node: name, Addr: listeners[i].Addr().String(), Secrets: [][]byte{testSecret}}})
		done := make(chan error, 1)
		go func() { done <- s.ServeCluster(listeners[i]) }()
		t.Cleanup(func() {
			s.Close()
			if err := <-done; !errors.Is(err, ErrServerClosed) {
				t.Errorf("ServeCluster returned %v", err)
			}
		})
		nodes = append(nodes, s)
	}
	for _, s := range nodes {
		s.waitNodes(len(names))
	}
	return nodes, func(from, to int) *faultnet.Relay { return relays[[2]int{from, to}] }
}

// TestNodesPairApart: two nodes cannot reach each other, while both reach the store, a third
// node and their clients. Viewers at one of them who want a tunnel of the other are told so;
// nobody else notices, no node counts as dead, and it is over with the cut.
func TestNodesPairApart(t *testing.T) {
	t.Parallel()
	nodes, relay := newPairedNodes(t, "a", "b", "c")
	var delivered atomic.Int32
	for i, s := range nodes {
		s.waitActive(s.connect(fmt.Sprint("of-", i), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				delivered.Add(1)
			}
			io.WriteString(w, "served")
		})))
		s.waitAnnounced()
	}
	ask := func(method string, by, of int) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("%s/of-%d/", nodes[by].url, of), strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := nodes[by].http.Do(req)
		if err != nil {
			t.Errorf("%s by %d of %d: %v", method, by, of, err)
			return 0, ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("Proxy-Status") + string(b)
	}
	all := func(when string) {
		for by := range nodes {
			for of := range nodes {
				if apart := by != of && by+of == 1; apart && when == "during" {
					continue
				}
				if status, body := ask(http.MethodGet, by, of); status != 200 {
					t.Errorf("%s the cut: by %d of %d: %d %s", when, by, of, status, body)
				}
			}
		}
	}
	all("before")

	pair := []*faultnet.Relay{relay(0, 1), relay(1, 0)}
	for _, r := range pair {
		r.Refuse(true)
		r.ResetAll()
	}
	var asking sync.WaitGroup
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		for by := range 2 {
			asking.Go(func() {
				begun := time.Now()
				status, body := ask(method, by, 1-by)
				if status != 503 && status != 502 || !strings.Contains(body, string(codeNodeAway)) && !strings.Contains(body, string(codeNodeLost)) {
					t.Errorf("%s by %d of %d: %d %s", method, by, 1-by, status, body)
				}
				t.Logf("%s by %d: %d after %v", method, by, status, time.Since(begun).Round(100*time.Millisecond))
			})
		}
	}
	answered := make(chan struct{})
	go func() {
		asking.Wait()
		close(answered)
	}()
	for over := false; !over; {
		all("during")
		for i, s := range nodes {
			st, _ := s.Cluster()
			for _, n := range st.Nodes {
				if n.Seen != cluster.NodeUp {
					t.Fatalf("during the cut %d takes %s for %s", i, n.Name, n.Seen)
				}
			}
		}
		select {
		case <-answered:
			over = true
		case <-time.After(100 * time.Millisecond):
		}
	}
	if n := delivered.Load(); n > 0 {
		t.Errorf("%d of the POSTs were delivered", n)
	}

	// Those who wait are served as soon as the cut is over.
	for by := range 2 {
		asking.Go(func() {
			begun := time.Now()
			if status, body := ask(http.MethodPost, by, 1-by); status != 200 || time.Since(begun) > 5*time.Second {
				t.Errorf("by %d of %d when the cut is over: %d %s after %v", by, 1-by, status, body, time.Since(begun))
			}
		})
	}
	<-time.After(time.Second)
	for _, r := range pair {
		r.Refuse(false)
	}
	asking.Wait()
	all("after")
	if n := delivered.Load(); n != 2 {
		t.Errorf("2 POSTs were delivered %d times", n)
	}
}
