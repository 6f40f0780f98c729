package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestRollingRestart: two services behind one name are shut down in turn, and
// of viewers that ask without a pause none notices. Neither if everything takes
// 0.6 s from the tunnel client to the service and back: a registration has three
// such rounds.
func TestRollingRestart(t *testing.T) {
	t.Run("near", func(t *testing.T) { rollingRestart(t, faultnet.Faults{}, 4, 1) })
	t.Run("far", func(t *testing.T) { rollingRestart(t, faultnet.Faults{Delay: 300 * time.Millisecond}, 1, 1) })
	t.Run("several websockets", func(t *testing.T) { rollingRestart(t, faultnet.Faults{}, 4, 3) })
}

func rollingRestart(t *testing.T, way faultnet.Faults, restarts, connections int) {
	cfg := server.Config{DrainTimeout: 10 * time.Second}
	services := []*tunneltest.Service{tunneltest.NewService(t, cfg), tunneltest.NewService(t, cfg)}
	services[1].Stop()
	ways := make(map[*tunneltest.Service]string) // by which tunnel clients come
	for _, s := range services {
		r, err := faultnet.NewRelay(s.Addr, faultnet.Options{Up: way, Down: way})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		ways[s] = r.Addr()
	}

	// What is in front of them leads tunnel clients to the one that does not
	// drain, and viewers to the one that has the tunnel.
	var current atomic.Pointer[tunneltest.Service]
	current.Store(services[0])
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-time.After(500 * time.Millisecond)
		}
		io.WriteString(w, "ok")
	})
	c := services[0].StartClient("a", ok, tunnelclient.Config{
		Connections: connections,
		HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, network, ways[current.Load()])
			},
			DisableKeepAlives: true,
		}},
		OnStateChange: func(st tunnelclient.State) {
			if st.Phase == tunnelclient.PhaseWaiting {
				t.Errorf("the tunnel was down: %+v", st)
			}
		},
	})
	defer c.Stop()
	services[0].WaitTunnel("a")

	var holder atomic.Pointer[tunneltest.Service] // of the tunnel
	holder.Store(services[0])
	var requests atomic.Int32
	v := tunneltest.NewViewer(t)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for _, path := range []string{"/", "/", "/slow"} {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(2 * time.Millisecond):
				}
				s := holder.Load()
				resp, err := v.Get(s.URL + "/a" + path)
				if err != nil {
					t.Error(err)
					return
				}
				if body := tunneltest.ReadAll(t, resp); resp.StatusCode != http.StatusOK || body != "ok" {
					t.Errorf("%s: %d %q", path, resp.StatusCode, body)
				}
				requests.Add(1)
			}
		})
	}
	for i := range restarts {
		old, next := services[i%2], services[(i+1)%2]
		next.Restart()
		current.Store(next)
		done := make(chan error, 1)
		go func() { done <- old.Server.Shutdown(context.Background()) }()
		next.WaitTunnel("a")
		holder.Store(next)
		if err := <-done; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		old.Stop()
	}
	close(stop)
	load.Wait()
	t.Logf("%d requests", requests.Load())
}
