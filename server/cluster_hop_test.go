package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// links returns the links of s to other.
func (s *testService) links(other *testService) []*link {
	s.cluster.mu.Lock()
	p := s.cluster.peers[other.cluster.member.Name()]
	s.cluster.mu.Unlock()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*link(nil), p.links...)
}

// TestHopOfDraining: a node that drains says so to viewers and tunnel clients, but the
// links of other nodes go on: they carry requests of others.
func TestHopOfDraining(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2, new(cluster.Memory), Config{DrainTimeout: 10 * time.Second})
	begun, goOn := make(chan struct{}), make(chan struct{})
	c := nodes[0].connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-goOn
		}
		io.WriteString(w, "ok")
	}))
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	slow := make(chan string, 1)
	go func() { _, body := nodes[1].get("/here/slow"); slow <- body }()
	<-begun
	before := nodes[1].links(nodes[0])
	over := make(chan error, 1)
	go func() { over <- nodes[0].Shutdown(context.Background()) }()
	waitFor(t, nodes[0].isDraining)
	if resp, body := nodes[1].get("/here/"); resp.StatusCode != 200 || body != "ok" || resp.Header.Get("Connection") != "" {
		t.Errorf("%d %s, %v", resp.StatusCode, body, resp.Header)
	}
	if after := nodes[1].links(nodes[0]); len(before) != 1 || len(after) != 1 || after[0] != before[0] || !after[0].tr.Usable() {
		t.Errorf("the link has gone: %v, %v", before, after)
	}
	close(goOn)
	if body := <-slow; body != "ok" {
		t.Errorf("the request in flight got %q", body)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// TestHopBarePath: the node that has the tunnel knows what its client wants done about the
// bare path.
func TestHopBarePath(t *testing.T) {
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	for id, pass := range map[string]bool{"plain": false, "passing": true} {
		h := http.Header{"Authorization": {"Bearer " + mint(t, id)}, wire.HeaderID: {id}}
		if pass {
			h.Set(wire.HeaderBarePath, wire.BarePathPass)
		}
		c, _, err := nodes[0].dialWith(h)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.conn.Close() })
		c.serve(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RequestURI) }))
		nodes[0].waitActive(c)
	}
	nodes[0].waitAnnounced()
	for _, s := range nodes {
		if resp, _ := s.get("/plain?q=1", "Sec-Fetch-Mode", "navigate"); resp.StatusCode != 307 || resp.Header.Get("Location") != "/plain/?q=1" {
			t.Errorf("a browser: %d, %v", resp.StatusCode, resp.Header)
		}
		if resp, body := s.get("/plain?q=1"); resp.StatusCode != 200 || body != "/?q=1" {
			t.Errorf("a program: %d %s", resp.StatusCode, body)
		}
		if resp, body := s.get("/passing?q=1", "Sec-Fetch-Mode", "navigate"); resp.StatusCode != 200 || body != "/?q=1" {
			t.Errorf("a browser, where the target decides: %d %s", resp.StatusCode, body)
		}
		if resp, _ := s.get("/plain", "Service-Worker", "script"); resp.StatusCode != 403 {
			t.Errorf("a service worker: %d", resp.StatusCode)
		}
	}
}

// TestHopLoop: a request that comes round to another node of the cluster has come round.
func TestHopLoop(t *testing.T) {
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	var passes atomic.Int32
	c := nodes[0].connect("round", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passes.Add(1)
		req, err := http.NewRequestWithContext(r.Context(), "GET", nodes[1].url+"/round/", nil)
		if err != nil {
			t.Error(err)
			return
		}
		req.Header = r.Header.Clone()
		resp, err := nodes[1].http.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Proxy-Status", resp.Header.Get("Proxy-Status"))
		w.WriteHeader(resp.StatusCode)
	}))
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	if resp, body := nodes[0].get("/round/"); resp.StatusCode != http.StatusLoopDetected || passes.Load() != 1 {
		t.Errorf("%d %s after %d passes", resp.StatusCode, body, passes.Load())
	}
}

// TestHopRecords: a request over the hop is one request, with one record of the node that
// the viewer has come to, whatever becomes of it.
func TestHopRecords(t *testing.T) {
	records := make(chan *RequestInfo, 16)
	nodes := newNodes(t, 2, new(cluster.Memory), Config{MaxStreams: 1, RequestDone: func(i *RequestInfo) { records <- i }})
	begun, goOn := make(chan struct{}), make(chan struct{})
	c := nodes[0].connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/held":
			close(begun)
			<-goOn
		case "/421":
			w.WriteHeader(http.StatusMisdirectedRequest)
		case "/103":
			w.Header().Set(wire.HeaderHop, hopReady)
			w.WriteHeader(http.StatusEarlyHints)
		case "/down":
			w.Header().Set(wire.HeaderError, "connection_refused")
			w.WriteHeader(http.StatusBadGateway)
		case "/panic":
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, r.Header.Get(wire.HeaderRequestID))
	}))
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	for _, tt := range []struct {
		path           string
		status         int
		hop, errorCode string
	}{
		{"/here/", 200, "", ""},
		{"/here/421", 421, "", ""},
		{"/here/103", 200, "", ""},
		{"/here/down", 502, "target", string(codeTargetRefused)},
		{"/here/panic", 502, "target", string(codeTargetBroke)},
		{"/nobody/", 404, "service", string(codeNoTunnel)},
	} {
		resp, body := nodes[1].get(tt.path)
		i := <-records
		if resp.StatusCode != tt.status || i.Status != tt.status || i.FailedHop != tt.hop || i.ErrorCode != tt.errorCode {
			t.Errorf("%s: %d %s; %+v", tt.path, resp.StatusCode, body, i)
		}
		if want := map[bool]string{true: "a"}[i.Tunnel == "here"]; i.TunnelNode != want {
			t.Errorf("%s: the tunnel is at %q, want %q", tt.path, i.TunnelNode, want)
		}
		if tt.hop == "" && body != i.ID {
			t.Errorf("%s: the target knows the request as %q, the record as %q", tt.path, body, i.ID)
		}
	}
	held := make(chan struct{})
	go func() { defer close(held); nodes[1].get("/here/held") }()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", nodes[1].url+"/here/", nil)
	if resp, err := nodes[1].http.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("over the limit of streams: %d", resp.StatusCode)
	}
	if i := <-records; i.FailedHop != "viewer" {
		t.Errorf("a viewer that left: %+v", i)
	}
	close(goOn)
	<-held
	<-records
	select {
	case i := <-records:
		t.Errorf("one record more: %+v", i)
	default:
	}
	if d, _ := nodes[0].Tunnel("here"); len(d.Failures) == 0 {
		t.Errorf("the node that has the tunnel knows of no failure")
	}
}

// TestHopRoundTripper: Go code reaches tunnels of other nodes as those of its own.
func TestHopRoundTripper(t *testing.T) {
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	c := nodes[0].connect("here", echoHandler)
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	web := &http.Client{Transport: nodes[1].RoundTripper("here")}
	resp, err := web.Post("http://h/x", "text/plain", io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20))))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || len(b) < 1<<20 || resp.Header.Get(wire.HeaderHop) != "" {
		t.Errorf("%d bytes, %v, %v", len(b), err, resp.Header)
	}
}

// TestHopFlood: connections that prove nothing keep no node out, and are bounded.
func TestHopFlood(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	addr := nodes[0].cfg.Cluster.Addr
	for range 3 * newcomers {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	keys, err := cluster.NewKeys(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", addr, keys.TLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	// A header without end.
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nX: ")
	io.Copy(c, strings.NewReader(strings.Repeat("x", 8<<20)))
	if b, err := io.ReadAll(c); err == nil && !strings.Contains(string(b), " 431 ") {
		t.Errorf("%q", b)
	}
	client := nodes[0].connect("here", echoHandler)
	nodes[0].waitActive(client)
	nodes[0].waitAnnounced()
	if resp, body := nodes[1].get("/here/"); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// TestHopForged: what viewers and Go code say in the name of a node means nothing.
func TestHopForged(t *testing.T) {
	nodes := newNodes(t, 2, new(cluster.Memory), Config{})
	got := make(chan http.Header, 1)
	c := nodes[0].connect("here", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	for _, s := range nodes {
		for _, name := range []string{
			"X-Websocktunnel-Hop", "x-websocktunnel-hop", "X-WEBSOCKTUNNEL-HOP", "X-Websocktunnel-Node", "X-Websocktunnel-Node-From",
			"X-Websocktunnel-Control", "X-Websocktunnel-Instance", "X-Websocktunnel-Attempt", "X-Websocktunnel-Error",
		} {
			answer := s.raw("GET /here/ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n" + name + ": other - hold bare\r\n" + name + ": not-here\r\n\r\n")
			if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
				t.Errorf("%s: %q", name, answer)
				continue
			}
			for k := range <-got {
				if strings.EqualFold(k, name) {
					t.Errorf("the target gets %s", k)
				}
			}
		}
	}
}
