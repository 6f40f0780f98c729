package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
)

// TestLinkStalledStreams: streams that stall, almost all of a link, leave the last one as
// fast as before; and what is above the limit of a link goes to another one.
func TestLinkStalledStreams(t *testing.T) {
	for name, stall := range map[string]func(v *rawViewer){
		"uploads": func(v *rawViewer) {
			v.request("POST", "/bad/", false)
			for range 10 { // more than the target's side takes of one
				v.WriteData(v.next-2, false, make([]byte, 16<<10))
			}
		},
		"downloads": func(v *rawViewer) { v.request("GET", "/bad/flood", true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var arrived atomic.Int32
			a, b := hopMemoryNodes(t, Config{}, Config{MaxStreams: 1000}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived.Add(1)
				for err := error(nil); err == nil && r.URL.Path == "/flood"; {
					_, err = w.Write(make([]byte, 32<<10))
				}
				<-r.Context().Done()
			}))
			fast := func() (most time.Duration) {
				for range 5 {
					begin := time.Now()
					resp, err := a.http.Post(a.url+"/good/", "text/plain", strings.NewReader(strings.Repeat("x", 2<<20)))
					if err != nil {
						t.Fatal(err)
					}
					n, err := io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if err != nil || n < 2<<20 {
						t.Fatalf("%d bytes, %v", n, err)
					}
					most = max(most, time.Since(begin))
				}
				return most
			}
			before := fast()
			const stalled = linkStreams - 5 // nodes use some for themselves
			var viewers []*rawViewer
			for i := range stalled {
				if i%100 == 0 {
					viewers = append(viewers, dialViewerFrom(t, a, net.IPv4(127, 0, 0, byte(20+i/100)), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
				}
				stall(viewers[len(viewers)-1])
			}
			waitFor(t, func() bool { return arrived.Load() == stalled })
			links := a.links(b)
			if after := fast(); len(links) != 1 || after > 2*time.Second+10*before {
				t.Errorf("%d links; %v with stalled streams, %v without", len(links), after, before)
			}
			if now := a.links(b); len(now) != 1 {
				t.Errorf("%d links before the limit", len(now))
			}
			for range 10 {
				stall(viewers[0])
			}
			waitFor(t, func() bool { return arrived.Load() == stalled+10 && len(a.links(b)) == 2 })
			fast()
		})
	}
}

// goingNode is another node, whose links end one after the other.
type goingNode struct {
	mu   sync.Mutex
	ends []context.CancelFunc
}

// goaway has all links that there are end, when their requests have.
func (g *goingNode) goaway() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, end := range g.ends {
		end()
	}
	g.ends = nil
}

func (g *goingNode) made() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.ends)
}

// newGoingNode returns one that has the tunnel "far".
func newGoingNode(t *testing.T, d cluster.Directory, h http.Handler) *goingNode {
	t.Helper()
	g := new(goingNode)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{Subprotocol: hopSubprotocol})
		if err != nil {
			t.Error(err)
			return
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		g.mu.Lock()
		g.ends = append(g.ends, cancel)
		g.mu.Unlock()
		_ = h2conn.Serve(ctx, conn, h, h2conn.ServeConfig{DrainTimeout: 10 * time.Second})
	}))
	srv.TLS = neighbourKeys(t).TLS()
	srv.StartTLS()
	t.Cleanup(func() { g.goaway(); srv.Close() })
	keys := neighbourKeys(t)
	n := cluster.Node{Name: "going", Boot: "b00t", Addr: srv.Listener.Addr().String(), State: cluster.Up, Beat: time.Now().Truncate(time.Millisecond)}
	keys.SignNode(&n)
	e := cluster.Entry{ID: "far", Gen: 1, Node: n.Name, Boot: n.Boot}
	keys.SignEntry(&e)
	if _, err := d.Beat(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Put(t.Context(), []cluster.Entry{e}); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestLinkGoaway: a link on which the other node wants no more requests is replaced, and
// what is under way there finishes.
func TestLinkGoaway(t *testing.T) {
	t.Parallel()
	d := new(cluster.Memory)
	begun := make(chan struct{}, 1)
	var delivered sync.Map // requests by their names
	g := newGoingNode(t, d, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("X-Websocktunnel-Hop"), hopControl) {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		if _, again := delivered.LoadOrStore(r.URL.RequestURI(), true); again {
			t.Errorf("%s twice", r.URL)
		}
		if r.URL.Path == "/slow" {
			io.WriteString(w, "begun ")
			http.NewResponseController(w).Flush()
			begun <- struct{}{}
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}))
	s := newNode(t, "a", d, Config{})
	s.waitNodes(2)
	waitFor(t, func() bool { return g.made() > 0 })
	for round := range 3 {
		pr, pw := io.Pipe()
		slow := make(chan string, 1)
		go func() {
			resp, err := s.http.Post(s.url+fmt.Sprint("/far/slow?", round), "text/plain", pr)
			if err != nil {
				slow <- err.Error()
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			slow <- fmt.Sprint(string(b), " ", err)
		}()
		<-begun
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				if i == 10 {
					g.goaway()
				}
				resp, err := s.http.Post(s.url+fmt.Sprint("/far/?", round, "-", i), "text/plain", strings.NewReader("body"))
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "4<nil>" && string(b) != "4 <nil>" {
					t.Errorf("%d %s %v", resp.StatusCode, b, err)
				}
			})
		}
		all.Wait()
		io.WriteString(pw, strings.Repeat("x", 1<<20))
		pw.Close()
		if got := <-slow; got != "begun 1048576 <nil> <nil>" && got != "begun 1048576<nil> <nil>" {
			t.Errorf("the request in flight: %s", got)
		}
	}
}

// TestStaleHolderAgain: a request that two nodes have sent away gets 503.
func TestStaleHolderAgain(t *testing.T) {
	t.Parallel()
	late, nodes := staleNodes(t)
	for i, method := range []string{"GET", "POST"} {
		id := fmt.Sprint("lost-", i)
		late.misleading(t, id, nodes[1], nodes[2])
		req, _ := http.NewRequestWithContext(t.Context(), method, nodes[0].url+"/"+id+"/", strings.NewReader("body"))
		resp, err := nodes[0].http.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(string(body), string(codeDirectory)) {
			t.Errorf("%s: %d %v %s", method, resp.StatusCode, resp.Header, body)
		}
	}
}
