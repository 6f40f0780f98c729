package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// faultyDirectory is a Directory that does not answer while broken is true.
type faultyDirectory struct {
	cluster.Directory
	broken chan struct{} // closed: it does not answer
}

func (d *faultyDirectory) fault() error {
	select {
	case <-d.broken:
		return errors.New("no answer")
	default:
		return nil
	}
}

func (d *faultyDirectory) Get(ctx context.Context, id string) (cluster.Entry, error) {
	if err := d.fault(); err != nil {
		return cluster.Entry{}, err
	}
	return d.Directory.Get(ctx, id)
}

func (d *faultyDirectory) Delete(ctx context.Context, entries []cluster.Entry) error {
	if err := d.fault(); err != nil {
		return err
	}
	return d.Directory.Delete(ctx, entries)
}

func (d *faultyDirectory) Leave(ctx context.Context, n cluster.Node) error {
	if err := d.fault(); err != nil {
		return err
	}
	return d.Directory.Leave(ctx, n)
}

// newNode runs one node of a cluster.
func newNode(t testing.TB, name string, d cluster.Directory, cfg Config) *testService {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cluster = &ClusterConfig{Directory: d, Node: name, Addr: ln.Addr().String(), Secrets: [][]byte{testSecret}}
	s := newService(t, cfg)
	done := make(chan error, 1)
	go func() { done <- s.ServeCluster(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("ServeCluster returned %v", err)
		}
	})
	return s
}

// newNodes runs so many nodes, and waits until they know each other.
func newNodes(t testing.TB, n int, d cluster.Directory, cfg Config) []*testService {
	t.Helper()
	var nodes []*testService
	for i := range n {
		nodes = append(nodes, newNode(t, string(rune('a'+i)), d, cfg))
	}
	for _, s := range nodes {
		s.waitNodes(n)
	}
	return nodes
}

func (s *testService) waitNodes(n int) {
	s.t.Helper()
	waitFor(s.t, func() bool { st, _ := s.Cluster(); return len(st.Nodes) == n })
}

// waitAnnounced waits until the directory has all that s serves.
func (s *testService) waitAnnounced() {
	s.t.Helper()
	waitFor(s.t, func() bool { st, _ := s.Cluster(); return st.Announced > 0 && st.Pending == 0 })
}

// TestNodes: a viewer of any node reaches a tunnel of any other, in one hop.
func TestNodes(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 3, new(cluster.Memory), Config{})
	for i, holder := range nodes {
		id := "of-" + string(rune('a'+i))
		c := holder.connect(id, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Websocktunnel-Hop") || strings.HasPrefix(name, "X-Websocktunnel-Node") {
					t.Errorf("the tunnel client gets %s", name)
				}
			}
			w.Header().Set(wire.HeaderHop, "not-here") // a tunnel client's word is no node's
			w.Header().Set("X-For", r.Header.Get("X-Forwarded-For"))
			w.Header().Set("X-Uri", r.RequestURI)
			io.Copy(w, r.Body)
		}))
		holder.waitActive(c)
		holder.waitAnnounced()
		for _, entry := range nodes {
			resp, body := entry.get("/"+id+"/a%2fb?q=1", wire.HeaderHop, "x - hold", wire.HeaderNode, "x")
			if resp.StatusCode != 200 || body != "" || resp.Header.Get("X-Uri") != "/a%2fb?q=1" || resp.Header.Get("X-For") != "127.0.0.1" {
				t.Errorf("%s by %s: %d %v %q", id, entry.url, resp.StatusCode, resp.Header, body)
			}
			if h := resp.Header.Get(wire.HeaderHop); h != "" {
				t.Errorf("the viewer gets %q", h)
			}
		}
	}
	// Longer than what can be sent again.
	resp, err := nodes[0].http.Post(nodes[0].url+"/of-c/", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || len(b) != 1<<20 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if resp, body := nodes[1].get("/nobody/"); resp.StatusCode != 404 || !strings.Contains(body, string(codeNoTunnel)) {
		t.Errorf("an absent id: %d %s", resp.StatusCode, body)
	}
}

// TestNodesNewestWins: a client that registers at another node takes its id with it, and
// what it had in flight finishes.
func TestNodesNewestWins(t *testing.T) {
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	begun, goOn := make(chan struct{}), make(chan struct{})
	old := nodes[0].connect("moving", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-goOn
		io.WriteString(w, "old")
	}))
	nodes[0].waitActive(old)
	nodes[0].waitAnnounced()
	slow := make(chan string, 1)
	go func() { _, body := nodes[1].get("/moving/slow"); slow <- body }()
	<-begun
	fresh := nodes[1].connect("moving", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "new") }))
	nodes[1].waitActive(fresh)
	nodes[1].waitAnnounced()
	waitFor(t, func() bool { _, body := nodes[0].get("/moving/"); return body == "new" })
	close(goOn)
	if body := <-slow; body != "old" {
		t.Errorf("the request in flight got %q", body)
	}
	select {
	case <-old.served:
	case <-time.After(10 * time.Second):
		t.Fatal("the old session goes on")
	}
}

// TestNodesFailures: what cannot be known is no 404.
func TestNodesFailures(t *testing.T) {
	t.Parallel()
	d := &faultyDirectory{new(cluster.Memory), make(chan struct{})}
	nodes := newNodes(t, 2, d, Config{})
	c := nodes[0].connect("here", echoHandler)
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	if resp, body := nodes[1].get("/here/"); resp.StatusCode != 200 {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	close(d.broken)
	if resp, body := nodes[1].get("/unheard-of/"); resp.StatusCode != 503 || !strings.Contains(body, string(codeDirectory)) {
		t.Errorf("without a directory: %d %s", resp.StatusCode, body)
	}
	if resp, body := nodes[1].get("/here/"); resp.StatusCode != 200 {
		t.Errorf("without a directory, a tunnel that is known: %d %s", resp.StatusCode, body)
	}
	nodes[0].cluster.close() // it has not said goodbye
	if resp, body := nodes[1].get("/here/"); resp.StatusCode != 503 || !strings.Contains(body, string(codeNodeAway)) {
		t.Errorf("a node that is away: %d %s", resp.StatusCode, body)
	}
}

// TestHopListener: the port of nodes is for nodes.
func TestHopListener(t *testing.T) {
	nodes := newNodes(t, 1, new(cluster.Memory), Config{})
	addr := nodes[0].cfg.Cluster.Addr
	resp, err := http.Get("http://" + addr + "/here/")
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != 400 { // net/http's, for a request without TLS
			t.Errorf("without TLS: %d", resp.StatusCode)
		}
	}
	for name, secret := range map[string][]byte{"another cluster": []byte("another secret of a cluster"), "its own": testSecret} {
		keys, err := cluster.NewKeys(secret)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{TLSClientConfig: keys.TLS(), DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + addr + "/here/")
		switch {
		case name != "its own":
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s: %d", name, resp.StatusCode)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			resp.Body.Close()
			if resp.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("a request for no node in particular: %d", resp.StatusCode)
			}
		}
	}
}

// TestNodesEvictMoved: a tunnel that has gone from one node to another is evicted at the
// first one, also with a newer token.
func TestNodesEvictMoved(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	first := nodes[0].connect("moves", echoHandler)
	nodes[0].waitActive(first)
	first.conn.Abort()
	waitFor(t, func() bool { return len(slices.Collect(nodes[0].Gone())) == 1 })
	newer, err := MintToken(testSecret, Claims{ID: "moves", TTL: 2 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := nodes[1].dial("moves", newer)
	if err != nil {
		t.Fatal(err)
	}
	second.serve(echoHandler)
	nodes[1].waitActive(second)
	nodes[1].waitAnnounced()
	waitFor(t, func() bool { return nodes[0].NodeOf(t.Context(), "moves") == "b" })
	if !nodes[0].Evict("moves") {
		t.Fatal("nothing has been evicted")
	}
	<-second.served
}

// TestNodesEvict: it does not matter at which node an operator evicts, and no node lets the
// token in again, also one that comes later.
func TestNodesEvict(t *testing.T) {
	d := new(cluster.Memory)
	nodes := newNodes(t, 2, d, Config{})
	token := mint(t, "bad")
	c, _, err := nodes[0].dial("bad", token)
	if err != nil {
		t.Fatal(err)
	}
	c.serve(echoHandler)
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	if nodes[1].NodeOf(t.Context(), "bad") != "a" || nodes[0].NodeOf(t.Context(), "bad") != "a" {
		t.Error("it is not known which node has the tunnel")
	}
	if nodes[1].Evict("another") {
		t.Error("a tunnel has been evicted that is not there")
	}
	if !nodes[1].Evict("bad") {
		t.Fatal("the tunnel of another node has not been evicted")
	}
	<-c.served
	refused := func(s *testService) bool {
		c, resp, err := s.dial("bad", token)
		if err == nil {
			c.conn.Close()
			return false
		}
		return resp != nil && resp.StatusCode == http.StatusUnauthorized
	}
	for i, s := range nodes {
		if !refused(s) {
			t.Errorf("node %d lets the token in", i)
		}
	}
	late := newNode(t, "late", d, Config{})
	late.waitNodes(3)
	waitFor(t, func() bool { return refused(late) })
	if !late.Unblock("bad") {
		t.Error("nothing was blocked")
	}
	for i, s := range append(nodes, late) {
		if refused(s) {
			t.Errorf("node %d does not let the token in", i)
		}
	}
}
