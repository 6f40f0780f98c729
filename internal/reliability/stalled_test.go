package reliability

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestStalledStreams covers F8, F9 and F10: all requests of a tunnel are stuck
// but one, in either direction, and that one is served promptly. What would hold more
// than a tunnel may is ended. The request over the limit of requests is
// refused after a bounded wait. Its figures come from
//
//	WST_LONG=1 go test -tags http2legacy -run TestStalledStreams -v ./internal/reliability
//
// with the 200 requests that a tunnel may carry by default; the short version
// has 40, and windows that have to be as large in proportion.
func TestStalledStreams(t *testing.T) {
	t.Run("downloads that nobody reads", func(t *testing.T) {
		stalledStreams(t, "GET /a/endless HTTP/1.1\r\nHost: h\r\n\r\n", func(c net.Conn, _ *atomic.Int64) {
			io.ReadFull(c, make([]byte, len("HTTP/1.1 200 OK")))
		})
	})
	t.Run("uploads that the target does not read", func(t *testing.T) {
		stalledStreams(t, "POST /a/unread HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000000\r\n\r\n", func(c net.Conn, moved *atomic.Int64) {
			p := make([]byte, 32<<10)
			for {
				n, err := c.Write(p)
				moved.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	})
}

func stalledStreams(t *testing.T, request string, viewer func(c net.Conn, moved *atomic.Int64)) {
	noLeaks(t)
	n := pick(40, 200)
	var window int32
	if !long() {
		window = int32(n+10) << 20 // as 256 is to 250
	}
	var moved atomic.Int64        // bytes
	var begun, ended atomic.Int64 // requests
	over := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			io.WriteString(w, "ok")
			return
		}
		begun.Add(1)
		defer ended.Add(1)
		if r.URL.Path != "/endless" {
			select {
			case <-over:
			case <-r.Context().Done():
			}
			return
		}
		p := make([]byte, 32<<10)
		for {
			k, err := w.Write(p)
			moved.Add(int64(k))
			if err != nil {
				return
			}
		}
	})
	// In memory, where nothing but this process holds what is stuck.
	s, _, _ := newMemoryService(t, server.Config{MaxStreams: n, ConnWindow: window, StallTimeout: 10 * time.Minute}, faultnet.Options{
		Up: faultnet.Faults{Buffer: 64 << 10}, Down: faultnet.Faults{Buffer: 64 << 10},
	})
	c, err := s.connect("a", h, tunnelclient.Config{ConnWindow: window, DrainTimeout: -1}, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s.WaitTunnel("a")
	first := probe(t, s, "a", time.After(pick(200*time.Millisecond, 5*time.Second)))
	heap := measure().heap

	// Each viewer has a connection of its own.
	ask := func(request string) net.Conn {
		nc, err := s.dialViewer(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		io.WriteString(nc, request)
		return nc
	}
	for range n - 1 {
		go viewer(ask(request), &moved)
	}
	// Until nothing has moved for a while.
	last, since := int64(-1), time.Now()
	if !tunneltest.Poll(2*time.Minute, func() bool {
		if now := moved.Load(); now != last || begun.Load() < int64(n-1) {
			last, since = now, time.Now()
		}
		return time.Since(since) > time.Second
	}) {
		t.Fatalf("%d bytes have moved, and still do", moved.Load())
	}
	grown := float64(int64(measure().heap)-int64(heap)) / (1 << 20)
	probed := probe(t, s, "a", time.After(pick(500*time.Millisecond, 5*time.Second)))
	t.Logf("%d stuck, of which %d were ended, %.1f MiB in all windows and buffers, heap of both ends grown by %.1f MiB; the probe: at first %v, now %v",
		n-1, ended.Load(), float64(moved.Load())/(1<<20), grown, first, probed)
	if worst := probed.quantile(1); worst > 5*time.Second {
		t.Errorf("a request took %v", worst)
	}
	within(t, "p99 of the probe", probed.quantile(0.99), first.quantile(0.99), 10*time.Millisecond)
	// A window each, once at either end, and what is on the way in buffers; but not more than
	// a tunnel may hold.
	if bound := 2 * 1.1 * float64(min(n, 48)+8); grown > bound {
		t.Errorf("the heap has grown by %.1f MiB, more than %.1f", grown, bound)
	}

	// The other places are taken by requests of which no bytes wait; the next one waits, but
	// not for ever.
	for begun.Load()-ended.Load() < int64(n) {
		before := begun.Load()
		ask("GET /a/quiet HTTP/1.1\r\nHost: h\r\n\r\n")
		if !tunneltest.Poll(20*time.Second, func() bool { return begun.Load() > before }) {
			t.Fatal("the last places cannot be taken")
		}
	}
	from := time.Now()
	status, header := get(t, s, "/a/")
	took := time.Since(from)
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") == "" ||
		!strings.Contains(header.Get("Proxy-Status"), "connection_limit_reached") {
		t.Errorf("one too many: %d, %v", status, header)
	}
	if took < 4*time.Second || took > 15*time.Second {
		t.Errorf("it was refused after %v: 5 s are what it has to wait", took)
	}
	t.Logf("one too many was refused after %v", took.Round(time.Millisecond))
	close(over)
	c.Stop()
}

// get makes a request on a connection of its own.
func get(t *testing.T, s *service, path string) (int, http.Header) {
	t.Helper()
	tr := &http.Transport{DialContext: s.dialViewer, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get(fmt.Sprint("http://tunnel.test", path))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}
