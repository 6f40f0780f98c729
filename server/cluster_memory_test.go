package server

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// hopMemoryNodes returns two nodes, of which the first, to which viewers come, has memory
// enough, and the second holds the tunnels "good" and "bad".
func hopMemoryNodes(t *testing.T, entry, holder Config, bad http.Handler) (a, b *testService) {
	t.Helper()
	d := new(cluster.Memory)
	entry.StallTimeout, holder.StallTimeout = time.Hour, time.Hour
	a, b = newNode(t, "a", d, entry), newNode(t, "b", d, holder)
	a.waitNodes(2)
	b.waitNodes(2)
	for id, h := range map[string]http.Handler{"good": echoHandler, "bad": bad} {
		b.waitActive(b.connect(id, h))
	}
	b.waitAnnounced()
	return a, b
}

// neighbour makes requests of the tunnel "good" by way of s, until stop is called, and each
// has to be answered.
func (s *testService) neighbour(t *testing.T) (stop func()) {
	t.Helper()
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-over:
				return
			default:
			}
			begin := time.Now()
			if resp, body := s.get("/good/"); resp.StatusCode != http.StatusOK {
				t.Errorf("the neighbour got %d %s", resp.StatusCode, body)
				return
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("the neighbour waited for %v", took)
			}
		}
	}()
	return func() { close(over); <-done }
}

// most follows what is held for a tunnel, and in all.
type most struct{ tunnel, all atomic.Int64 }

func (m *most) follow(s *testService, l label) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			m.tunnel.Store(max(m.tunnel.Load(), s.memory.HeldBy(l)))
			m.all.Store(max(m.all.Load(), s.memory.Held()))
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() { close(over); <-done }
}

// dialViewerFrom is dialRawViewer with an address of one's own.
func dialViewerFrom(t *testing.T, s *testService, from net.IP, settings ...http2.Setting) *rawViewer {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}
	c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Skipf("this system has no %v: %v", from, err)
	}
	t.Cleanup(func() { c.Close() })
	v := newRawViewer(c, settings...)
	go io.Copy(io.Discard, c)
	return v
}

// TestHopUploadsCount: uploads that a tunnel client does not read are held by the node that
// has the tunnel, for the tunnel. Near its limit those that stall are cut, and others go on.
func TestHopUploadsCount(t *testing.T) {
	for name, first := range map[string]int64{"at once": 0, "after a while": 128 << 10} {
		t.Run(name, func(t *testing.T) {
			a, b := hopMemoryNodes(t, Config{}, Config{MemoryLimit: 32 << 20, MaxStreams: 1000}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				io.CopyN(io.Discard, r.Body, first)
				<-r.Context().Done()
			}))
			var held most
			stop := held.follow(b, labelOf("bad"))
			quiet := a.neighbour(t)
			for i := range byte(2) {
				v := dialViewerFrom(t, a, net.IPv4(127, 0, 0, 10+i))
				go func() {
					for i := range uint32(40) {
						v.request("POST", "/bad/", false)
						for range 27 {
							if v.WriteData(2*i+1, false, make([]byte, 16<<10)) != nil {
								return
							}
						}
					}
				}()
			}
			waitFor(t, func() bool { return b.memory.HeldBy(labelOf("bad")) > b.memory.perTunnel })
			waitFor(t, func() bool { return b.memory.HeldBy(labelOf("bad")) < b.memory.perTunnel })
			quiet()
			stop()
			if n, may := held.tunnel.Load(), 3*b.memory.perTunnel; n > may {
				t.Errorf("%d MiB were held for the tunnel, and %d may be", n>>20, may>>20)
			}
			t.Logf("%d MiB of %d were held for the tunnel, %d of %d in all", held.tunnel.Load()>>20, b.memory.perTunnel>>20, held.all.Load()>>20, b.memory.total>>20)
			b.Evict("bad")
			waitFor(t, func() bool { return b.memory.Held() < 2*sessionCost })
		})
	}
}

// TestHopAnswersCount: answers that no viewer takes are held by the node to which the viewers
// have come as well, for their tunnel, and others on the same link go on.
func TestHopAnswersCount(t *testing.T) {
	a, b := hopMemoryNodes(t, Config{MemoryLimit: 64 << 20}, Config{MaxStreams: 1000}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 32<<10))
		}
	}))
	var held most
	stop := held.follow(a, labelOf("bad"))
	quiet := a.neighbour(t)
	var viewers []*rawViewer
	for i := range byte(4) {
		v := dialViewerFrom(t, a, net.IPv4(127, 0, 0, 10+i), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		viewers = append(viewers, v)
		for range 100 {
			v.request("GET", "/bad/", true)
		}
	}
	waitFor(t, func() bool { return a.memory.HeldBy(labelOf("bad")) > a.memory.perTunnel })
	waitFor(t, func() bool { return a.memory.HeldBy(labelOf("bad")) < a.memory.perTunnel })
	quiet()
	stop()
	if n, may := held.all.Load(), a.memory.total+a.memory.total/behavesReserve; n > may {
		t.Errorf("%d MiB were held in all, and %d may be", n>>20, may>>20)
	}
	t.Logf("%d MiB of %d were held for the tunnel, %d of %d in all", held.tunnel.Load()>>20, a.memory.perTunnel>>20, held.all.Load()>>20, a.memory.total>>20)
	b.Evict("bad")
	a.http.CloseIdleConnections()
	for _, v := range viewers {
		v.Close()
	}
	waitFor(t, func() bool { return a.memory.HeldBy(labelOf("bad")) == 0 && a.memory.Held() < 2*sessionCost })
}
