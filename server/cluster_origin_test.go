package server

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// newNodeService runs a Server for cfg as a node of a cluster with directory d.
func newNodeService(t *testing.T, cfg Config, d cluster.Directory) *testService {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cluster = &ClusterConfig{Directory: d, Node: "node-1", Addr: ln.Addr().String(), Secrets: [][]byte{testSecret}}
	s := newService(t, cfg)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.ServeCluster(ln); !errors.Is(err, ErrServerClosed) {
			t.Errorf("ServeCluster returned %v", err)
		}
	})
	t.Cleanup(func() {
		s.Close()
		serving.Wait()
	})
	return s
}

// TestOrigin: what a registration says about itself is in the directory. A client that
// says nothing, or nonsense, is served like all others.
func TestOrigin(t *testing.T) {
	d := new(cluster.Memory)
	s := newNodeService(t, Config{}, d)
	name, long := "AbCdEfGhIjKlMnOpQr-_09", strings.Repeat("n", 33)
	for id, tt := range map[string]struct {
		instance, attempt []string
		want              cluster.Origin
	}{
		"both":             {[]string{name}, []string{"7"}, cluster.Origin{Instance: name, Attempt: 7}},
		"highest":          {[]string{name[:1]}, []string{"9007199254740991"}, cluster.Origin{Instance: name[:1], Attempt: 1<<53 - 1}},
		"neither":          {nil, nil, cluster.Origin{}},
		"no-attempt":       {[]string{name}, nil, cluster.Origin{}},
		"no-instance":      {nil, []string{"7"}, cluster.Origin{}},
		"empty":            {[]string{""}, []string{""}, cluster.Origin{}},
		"two-instances":    {[]string{name, "b"}, []string{"7"}, cluster.Origin{}},
		"two-attempts":     {[]string{name}, []string{"7", "8"}, cluster.Origin{}},
		"long":             {[]string{long}, []string{"7"}, cluster.Origin{}},
		"other-characters": {[]string{"a b"}, []string{"7"}, cluster.Origin{}},
		"list":             {[]string{"a,b"}, []string{"7"}, cluster.Origin{}},
		"bytes":            {[]string{"a\xff"}, []string{"7"}, cluster.Origin{}},
		"negative":         {[]string{name}, []string{"-1"}, cluster.Origin{}},
		"signed":           {[]string{name}, []string{"+1"}, cluster.Origin{}},
		"too-high":         {[]string{name}, []string{"9007199254740992"}, cluster.Origin{}},
		"word":             {[]string{name}, []string{"seven"}, cluster.Origin{}},
		"fraction":         {[]string{name}, []string{"7.0"}, cluster.Origin{}},
	} {
		t.Run(id, func(t *testing.T) {
			h := http.Header{"Authorization": {"Bearer " + mint(t, id)}, wire.HeaderID: {id}}
			if tt.instance != nil {
				h[wire.HeaderInstance] = tt.instance
			}
			if tt.attempt != nil {
				h[wire.HeaderAttempt] = tt.attempt
			}
			c, _, err := s.dialWith(h)
			if err != nil {
				t.Fatal(err)
			}
			c.serve(echoHandler)
			defer c.conn.Close()
			var e cluster.Entry
			waitFor(t, func() bool {
				e, err = d.Get(t.Context(), id)
				return err == nil
			})
			if got := (cluster.Origin{Instance: e.Instance, Attempt: e.Attempt}); got != tt.want {
				t.Errorf("the directory has %+v, want %+v", got, tt.want)
			}
			if resp, _ := s.get("/" + id + "/"); resp.StatusCode != http.StatusOK {
				t.Errorf("a viewer gets %d", resp.StatusCode)
			}
		})
	}
}
