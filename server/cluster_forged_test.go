package server

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// trap is an address to which no request may go. It keeps what it is sent.
type trap struct {
	addr string

	mu    sync.Mutex
	conns int
	got   bytes.Buffer
}

func newTrap(t *testing.T) *trap {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	p := &trap{addr: ln.Addr().String()}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.conns++
			p.mu.Unlock()
			go func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(time.Second)) // it cannot go on
				b := make([]byte, 4<<10)
				for err := error(nil); err == nil; {
					var n int
					n, err = c.Read(b)
					p.mu.Lock()
					p.got.Write(b[:n])
					p.mu.Unlock()
				}
			}()
		}
	}()
	return p
}

// caught returns how many connections have come, and what they have sent.
func (p *trap) caught() (conns int, got string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conns, p.got.String()
}

// TestHopForgedStore: who can write to the store directs no request to an address of his
// choice, nor to a tunnel other than the one that was asked for.
func TestHopForgedStore(t *testing.T) {
	t.Parallel()
	d := new(cluster.Memory)
	nodes := newNodes(t, 2, d, Config{})
	c := nodes[1].connect("mine", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "mine") }))
	nodes[1].waitActive(c)
	nodes[1].waitAnnounced()
	ours := neighbourKeys(t)
	theirs, err := cluster.NewKeys([]byte("the secret of another cluster"))
	if err != nil {
		t.Fatal(err)
	}
	p := newTrap(t)
	put := func(e cluster.Entry) {
		t.Helper()
		if e.Gen == 0 {
			e.Gen = uint64(time.Now().Add(time.Hour).UnixMicro())
		}
		if _, err := d.Put(t.Context(), []cluster.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	beat := func(n cluster.Node) {
		t.Helper()
		if _, err := d.Beat(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	ask := func(id string) (int, string) {
		resp, body := nodes[0].get("/" + id + "/secret-path")
		return resp.StatusCode, body
	}
	// A node of his own, which nobody has signed, or another cluster has.
	for i, addr := range []string{p.addr, "169.254.169.254:80"} {
		name := "evil-" + string(rune('a'+i))
		evil := cluster.Node{Name: name, Boot: "boot", Addr: addr, State: cluster.Up, Beat: time.Now().Truncate(time.Millisecond)}
		for _, sign := range []func(*cluster.Node, *cluster.Entry){
			func(*cluster.Node, *cluster.Entry) {},
			func(n *cluster.Node, e *cluster.Entry) { theirs.SignNode(n); theirs.SignEntry(e) },
			func(n *cluster.Node, e *cluster.Entry) { ours.SignEntry(e) }, // an entry that a node once made
		} {
			e := cluster.Entry{ID: "lured", Gen: uint64(time.Now().UnixMicro()), Node: name, Boot: "boot"}
			sign(&evil, &e)
			beat(evil)
			put(e)
			if status, body := ask("lured"); status != 404 && status != 503 {
				t.Errorf("%s: %d %s", addr, status, body)
			}
		}
	}
	// The record of a node, with another address.
	list, err := d.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range list {
		if n.Name == "b" {
			n.Addr = p.addr
			beat(n)
		}
	}
	if status, body := ask("mine"); status != 200 || body != "mine" {
		t.Errorf("after a node's address was changed: %d %s", status, body)
	}
	// The entry of one id, for another.
	e, err := d.Get(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	e.ID = "another"
	put(e)
	if status, body := ask("another"); status == 200 {
		t.Errorf("another id: %s", body)
	}
	// An entry that names an earlier process of a node.
	e = cluster.Entry{ID: "ghost", Gen: 1, Node: "b", Boot: "earlier"}
	ours.SignEntry(&e)
	put(e)
	if status, body := ask("ghost"); status != 404 && status != 503 {
		t.Errorf("an earlier process: %d %s", status, body)
	}
	if n, got := p.caught(); n > 0 {
		t.Errorf("%d connections have gone there, with %q", n, got)
	}
	// What a node has signed in earlier times, when the address was its own: who has it now
	// cannot prove to be a node, and gets no request.
	old := cluster.Node{Name: "old", Boot: "earlier", Addr: p.addr, State: cluster.Up, Beat: time.Now().Add(-time.Hour).Truncate(time.Millisecond)}
	ours.SignNode(&old)
	e = cluster.Entry{ID: "replayed", Gen: 1, Node: "old", Boot: "earlier"}
	ours.SignEntry(&e)
	beat(old)
	put(e)
	ctx, leave := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		req, _ := http.NewRequestWithContext(ctx, "GET", nodes[0].url+"/replayed/secret-path", nil)
		req.Header.Set("Cookie", "secret-cookie")
		if resp, err := nodes[0].http.Do(req); err == nil {
			resp.Body.Close()
			t.Errorf("a replayed record: %d", resp.StatusCode)
		}
	}()
	// At its second connection, it has made nothing of the first.
	waitFor(t, func() bool { n, _ := p.caught(); return n > 1 })
	leave()
	<-asked
	if _, got := p.caught(); strings.Contains(got, "secret") || strings.Contains(got, "HTTP") || strings.Contains(got, wire.Subprotocol) {
		t.Errorf("the address has got %q", got)
	}
	if st, _ := nodes[0].Cluster(); st.Forged == 0 {
		t.Error("nothing was counted as forged")
	}
}
