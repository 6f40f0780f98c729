package server

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// newNodeBehindRelay is newNode for a node that the others reach through a relay.
func newNodeBehindRelay(t *testing.T, name string, d cluster.Directory, cfg Config) (*testService, *faultnet.Relay) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	relay, err := faultnet.NewRelay(ln.Addr().String(), faultnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { relay.Close() })
	cfg.Cluster = &ClusterConfig{Directory: d, Node: name, Addr: relay.Addr(), Secrets: [][]byte{testSecret}}
	s := newService(t, cfg)
	done := make(chan error, 1)
	go func() { done <- s.ServeCluster(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("ServeCluster returned %v", err)
		}
	})
	return s, relay
}

// TestHopToSilentNode: a request that waits for an answer of a node which has fallen
// silent follows its tunnel when that comes to another node, if it may be made twice. The
// others, and those of a node that is only quiet, stay where they are.
func TestHopToSilentNode(t *testing.T) {
	for _, tt := range []struct {
		name   string
		back   int // the node that the tunnel comes to
		silent bool
	}{
		{"back at the node of the viewer", 0, true},
		{"back at a third node", 1, true},
		{"a quiet node", 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := new(cluster.Memory)
			nodes := newNodes(t, 2, d, Config{})
			old, relay := newNodeBehindRelay(t, "old", d, Config{})
			for _, s := range append(nodes, old) {
				s.waitNodes(3)
			}
			arrived := make(chan string, 10)
			release := make(chan struct{})
			old.waitActive(old.connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- r.Method
				<-release
				io.WriteString(w, "old")
			})))
			old.waitAnnounced()
			ask := func(method string) <-chan string {
				answer := make(chan string, 1)
				req, err := http.NewRequestWithContext(t.Context(), method, nodes[0].url+"/here/", strings.NewReader("once")) //nolint:gosec // ours
				if err != nil {
					t.Fatal(err)
				}
				if method == http.MethodGet {
					req.Body, req.ContentLength = nil, 0
				}
				go func() {
					resp, err := nodes[0].http.Do(req)
					if err != nil {
						answer <- err.Error()
						return
					}
					defer resp.Body.Close()
					b, _ := io.ReadAll(resp.Body)
					answer <- string(b)
				}()
				<-arrived
				return answer
			}
			get, post := ask(http.MethodGet), ask(http.MethodPost)
			if tt.silent {
				for _, l := range relay.Links() {
					l.HalfOpen()
				}
			}
			<-time.After(silentLink)
			var posts int
			back := nodes[tt.back]
			back.waitActive(back.connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					posts++
				}
				io.WriteString(w, "new")
			})))
			want := "new"
			if !tt.silent {
				<-time.After(2 * silentPing)
				want = "old"
				close(release)
			}
			begun := time.Now()
			if got := <-get; got != want {
				t.Errorf("GET: %q, want %q", got, want)
			}
			if took := time.Since(begun); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
			if !tt.silent {
				if got := <-post; got != "old" {
					t.Errorf("POST: %q", got)
				}
				return
			}
			select {
			case got := <-post:
				t.Errorf("POST: %q", got)
			default:
			}
			for _, l := range relay.Links() {
				l.Up.Resume()
				l.Down.Resume()
			}
			close(release)
			if got := <-post; got != "old" || posts > 0 {
				t.Errorf("POST: %q, and the new session has had %d", got, posts)
			}
		})
	}
}
