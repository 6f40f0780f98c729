package e2e

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// wideTunnel is a tunnel over four websockets, whose /slow is answered when release is
// called.
type wideTunnel struct {
	*tunneltest.Service
	t       *testing.T
	client  *tunneltest.Client
	viewer  *http.Client
	began   chan struct{}
	proceed chan struct{}
	release func()
	slow    sync.WaitGroup
	failed  atomic.Int32 // slow requests without their answer
}

const wide = 4

func newWideTunnel(t *testing.T) *wideTunnel {
	w := &wideTunnel{
		Service: tunneltest.NewService(t, server.Config{DrainTimeout: 30 * time.Second}),
		t:       t, viewer: tunneltest.NewViewer(t), began: make(chan struct{}, 100), proceed: make(chan struct{}),
	}
	w.release = sync.OnceFunc(func() { close(w.proceed) })
	w.client = w.Client("a", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.began <- struct{}{}
			select {
			case <-w.proceed:
			case <-r.Context().Done():
				return
			}
		}
		io.WriteString(rw, "ok")
	}), tunnelclient.Config{Connections: wide, DrainTimeout: 30 * time.Second})
	t.Cleanup(w.slow.Wait)
	t.Cleanup(w.release)
	w.waitWide(0)
	return w
}

// waitWide waits until all websockets serve, after so many reconnects.
func (w *wideTunnel) waitWide(reconnects int) {
	w.t.Helper()
	if !tunneltest.Poll(30*time.Second, func() bool {
		info, _ := w.Tunnel("a")
		return info.Connections == wide && info.Reconnects == reconnects
	}) {
		info, _ := w.Tunnel("a")
		w.t.Fatalf("the tunnel: %+v", info)
	}
}

// request makes n slow requests, and waits until they have reached the handler.
func (w *wideTunnel) request(n int) {
	w.t.Helper()
	for range n {
		w.slow.Go(func() {
			resp, err := w.viewer.Get(w.client.URL + "/slow")
			if err != nil {
				w.t.Error(err)
				return
			}
			if body := tunneltest.ReadAll(w.t, resp); resp.StatusCode != http.StatusOK || body != "ok" {
				w.t.Logf("%d %q", resp.StatusCode, body)
				w.failed.Add(1)
			}
		})
		<-w.began
	}
}

// finish lets the slow requests be answered, all but at most lost of them.
func (w *wideTunnel) finish(lost int32) {
	w.t.Helper()
	w.release()
	w.slow.Wait()
	if n := w.failed.Load(); n > lost {
		w.t.Errorf("%d requests have failed, and at most %d may", n, lost)
	}
}

// TestConnections: requests of one tunnel use all its websockets, and when the active one
// breaks, those on the others finish, and all come back.
func TestConnections(t *testing.T) {
	tunneltest.SingleNode(t, "the details of a tunnel are those of the node that has it")
	t.Parallel()
	w := newWideTunnel(t)
	w.request(8)
	d, _ := w.Server.Tunnel("a")
	if len(d.Sessions) != wide {
		t.Fatalf("%d sessions", len(d.Sessions))
	}
	for _, s := range d.Sessions {
		if s.InFlight != 2 {
			t.Errorf("a websocket has %d requests, want 2", s.InFlight)
		}
	}
	w.CutTunnels() // which cuts the active one alone
	w.waitWide(1)
	w.finish(2)
	if !tunneltest.Poll(20*time.Second, func() bool { return w.Server.Status().Sessions["draining"] == 0 }) {
		t.Errorf("former websockets are still there: %v", w.Server.Status().Sessions)
	}
	w.waitWide(1)
}

// TestConnectionsEnd: neither end leaves requests behind on any websocket.
func TestConnectionsEnd(t *testing.T) {
	tunneltest.SingleNode(t, "the service that ends is the one that has the tunnel")
	for name, end := range map[string]func(w *wideTunnel) error{
		"the client's":  func(w *wideTunnel) error { w.client.Stop(); return nil },
		"the service's": func(w *wideTunnel) error { return w.Server.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWideTunnel(t)
			w.request(8)
			ended := make(chan error, 1)
			go func() { ended <- end(w) }()
			if !tunneltest.Poll(20*time.Second, func() bool {
				st := w.Server.Status()
				return st.Sessions["active"] == 0
			}) {
				t.Errorf("sessions: %v", w.Server.Status().Sessions)
			}
			select {
			case err := <-ended:
				t.Errorf("it has ended with requests in flight: %v", err)
			default:
			}
			w.finish(0)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			w.client.Stop()
		})
	}
}

// TestConnectionsReplaced: a second client with the id takes over, and none of the first
// one's websockets serves beside its.
func TestConnectionsReplaced(t *testing.T) {
	t.Parallel()
	w := newWideTunnel(t)
	w.request(8)
	second := w.Client("a", http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "second") }), tunnelclient.Config{Connections: 2})
	if !tunneltest.Poll(20*time.Second, func() bool { info, _ := w.Tunnel("a"); return info.Connections == 2 }) {
		t.Fatal("the second client has no two websockets")
	}
	for range 10 {
		resp, err := w.viewer.Get(second.URL + "/")
		if err != nil {
			t.Fatal(err)
		}
		if body := tunneltest.ReadAll(t, resp); body != "second" {
			t.Errorf("a request got %q", body)
		}
	}
	w.finish(0)
}
