package browser

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// threeNodes is a cluster in trouble, to be looked at.
type threeNodes struct{}

func (threeNodes) Cluster() (cluster.Status, bool) {
	return cluster.Status{Name: "node-a", Reachable: true, Whole: false, Forged: 2}, true
}

func (threeNodes) Nodes() []server.NodeInfo {
	n := func(name, addr string, seen cluster.NodeState, tunnels int) server.NodeInfo {
		return server.NodeInfo{NodeStatus: cluster.NodeStatus{Node: cluster.Node{Name: name, Addr: addr, Version: "v1.2.3", Tunnels: tunnels}, Seen: seen}}
	}
	a, b, c := n("node-a", "10.0.0.11:8444", cluster.NodeUp, 12), n("node-b", "10.0.0.12:8444", cluster.NodeDraining, 5), n("node-c", "10.0.0.13:8444", cluster.NodeSuspect, 14)
	a.Self = true
	b.InFlight, b.RoundTrip = 3, 1200*time.Microsecond
	c.Fault = "dial tcp 10.0.0.13:8444: connect: connection refused"
	return []server.NodeInfo{a, b, c}
}

func (threeNodes) NodeOf(context.Context, string) string  { return "" }
func (threeNodes) NodeTransport(string) http.RoundTripper { return nil }

// TestStatusPageNodes: of several nodes the page says which one it is of, what is wrong
// with the others, and with their directory.
func TestStatusPageNodes(t *testing.T) {
	a := admin.New(admin.Config{Service: newManyTunnels(3), Cluster: threeNodes{}, Version: server.Version{Version: "v1.2.3"}})
	ln := tunneltest.Listen(t)
	done := make(chan error, 1)
	go func() { done <- a.Serve(ln) }()
	t.Cleanup(func() {
		a.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	tb := newTab(t)
	ctx, cancel := context.WithTimeout(tb.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1200, 760)); err != nil {
		t.Fatal(err)
	}
	complaints := tb.complaints()
	tb.open("http://" + ln.Addr().String() + "/")
	got := js[[]string](tb, until(`document.querySelectorAll('#node-rows tr').length === 3 && document.querySelector('#count').textContent`)+`
		return [document.title, document.querySelector('#count').textContent, document.querySelector('#directory').textContent,
			...Array.from(document.querySelectorAll('#node-rows tr'), row => Array.from(row.children, cell => cell.textContent).join(' | '))];
	`)
	want := []string{
		"websocktunnel node-a", "4 tunnels on node-a",
		"The directory answers, and may not have all ids. Entries with a wrong signature: 2.",
		"node-a (this one) | up | 12 | – | – | 10.0.0.11:8444 | v1.2.3",
		"node-b | draining | 5 | 3 | 1.2 ms | 10.0.0.12:8444 | v1.2.3",
		"node-c | suspect: dial tcp 10.0.0.13:8444: connect: connection refused | 14 | 0 | – | 10.0.0.13:8444 | v1.2.3",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the page shows %q, want %q", got, want)
	}
	tb.screenshot("status-page-nodes")
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(390, 844)); err != nil {
		t.Fatal(err)
	}
	dark := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}}
	if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, dark); err != nil {
		t.Fatal(err)
	}
	if wide := js[bool](tb, `return document.documentElement.scrollWidth > window.innerWidth`); wide {
		t.Error("on a phone the page is wider than the screen")
	}
	if got := complaints(); len(got) > 0 {
		t.Errorf("the browser complains: %q", got)
	}
}
