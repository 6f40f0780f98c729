package admin_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestNodes: what is on another node is seen and changed at this one.
func TestNodes(t *testing.T) {
	directory := new(cluster.Memory)
	var services []*tunneltest.Service
	var admins []*admin.Admin
	for i, name := range []string{"a", "b"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := tunneltest.NewService(t, server.Config{Cluster: &server.ClusterConfig{
			Directory: directory, Node: name, Addr: ln.Addr().String(), Secrets: [][]byte{tunneltest.Secret},
			Admin: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { admins[i].ForNodes().ServeHTTP(w, r) }),
		}})
		done := make(chan error, 1)
		go func() { done <- s.Server.ServeCluster(ln) }()
		t.Cleanup(func() {
			s.Stop()
			if err := <-done; !errors.Is(err, server.ErrServerClosed) {
				t.Error(err)
			}
		})
		services = append(services, s)
		admins = append(admins, admin.New(admin.Config{Service: s.Server, Cluster: s.Server}))
	}
	ask := func(i int, method, path string, v any) int {
		t.Helper()
		r := httptest.NewRequest(method, "http://127.0.0.1"+path, nil)
		r.Header.Set(admin.HeaderChange, "1")
		w := httptest.NewRecorder()
		admins[i].ServeHTTP(w, r)
		b, err := io.ReadAll(w.Result().Body)
		if err != nil || v != nil && json.Unmarshal(b, v) != nil {
			t.Fatalf("%s: %v %s", path, err, b)
		}
		return w.Code
	}
	client, err := tunnelclient.New(tunnelclient.Config{ID: "there", ServerURL: services[1].URL, Tokens: tunnelclient.StaticToken(services[1].Token("there"))})
	if err != nil {
		t.Fatal(err)
	}
	evicted := make(chan error, 1)
	go func() { evicted <- client.Serve(t.Context(), http.NotFoundHandler()) }()
	var list admin.NodeList
	if !tunneltest.Poll(20*time.Second, func() bool {
		var others admin.NodeList // what one node knows the other may not know yet
		ask(1, "GET", "/api/v1/nodes", &others)
		ask(0, "GET", "/api/v1/nodes", &list)
		return len(list.Nodes) == 2 && len(others.Nodes) == 2 && services[0].Server.NodeOf(t.Context(), "there") == "b"
	}) {
		t.Fatalf("%+v", list)
	}
	if n := list.Nodes[0]; n.Name != "a" || !n.Self || !list.Reachable {
		t.Errorf("%+v", list)
	}
	var page admin.TunnelList
	if ask(0, "GET", "/api/v1/tunnels", &page); page.Total != 0 {
		t.Errorf("this node has %+v", page)
	}
	if ask(0, "GET", "/api/v1/tunnels?node=b", &page); page.Total != 1 || page.Tunnels[0].ID != "there" {
		t.Errorf("the other node has %+v", page)
	}
	var problem admin.Problem
	if code := ask(0, "GET", "/api/v1/tunnels?node=c", &problem); code != http.StatusBadGateway || !strings.Contains(problem.Detail, `"c"`) {
		t.Errorf("an unknown node: %d %+v", code, problem)
	}
	if code := ask(0, "GET", "/api/v1/tunnels?node=a&limit=5", &page); code != 200 || page.Total != 0 {
		t.Errorf("this node, by its name: %d %+v", code, page)
	}
	var d admin.TunnelDetail
	if code := ask(0, "GET", "/api/v1/tunnels/there", &d); code != 200 || d.Active == nil || d.Node != "b" {
		t.Errorf("a tunnel of the other node: %d %+v", code, d)
	}
	if code := ask(0, "GET", "/api/v1/tunnels/nowhere", nil); code != 404 {
		t.Errorf("no tunnel: %d", code)
	}
	if code := ask(0, "POST", "/api/v1/tunnels/there/evict", nil); code != 200 {
		t.Errorf("evict: %d", code)
	}
	if err := <-evicted; err == nil {
		t.Error("the client has not been told")
	}
	for i := range admins {
		var blocked admin.Evicted
		if ask(i, "GET", "/api/v1/evicted", &blocked); len(blocked.IDs) != 1 {
			t.Errorf("node %d blocks %+v", i, blocked)
		}
	}
}
