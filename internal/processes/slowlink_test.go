//go:build linux

package processes

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestSlowLink (F24): somebody moves as much as the link between the service
// and a tunnel client carries. Small requests through the same tunnel still get
// their turn, and nobody takes the tunnel for dead.
func TestSlowLink(t *testing.T) {
	needProcesses(t)
	for _, direction := range []string{"download", "upload"} {
		t.Run(direction, func(t *testing.T) {
			t.Parallel()
			ends := newCable(t)
			serviceHost, clientHost := ends[0], ends[1]
			for addr, h := range map[string]*host{serviceSide: serviceHost, clientSide: clientHost} {
				h.run(t, "tc qdisc add dev cable root tbf rate 1mbit burst 4kb latency 100ms")
				// Not BBR, which takes the rate of a bucket's bursts for that of
				// the link, and loses a third of what it sends.
				h.run(t, "ip route replace 10.99.0.0/24 dev cable src "+addr+" congctl reno")
			}
			addr := serviceSide + ":8080"
			tg := newTarget(t, clientHost, "127.0.0.1")
			svc := startService(t, addr, serviceOptions{host: serviceHost})
			client := startClient(t, clientHost, "http://"+addr, "x", tg.addr)
			viewer := newViewer(t, serviceHost)
			served(t, viewer, client.url)

			var moved int64
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { moved = bulk(ctx, t, viewer, direction, client.url) })
			<-time.After(2 * time.Second) // every buffer on the way is full
			stop := probe(t, viewer, client.url, 100*time.Millisecond)
			<-time.After(pick(6*time.Second, 60*time.Second))
			took, failed := stop()
			cancel()
			wg.Wait()
			none(t, "failed requests", failed)
			n, p50, p99 := len(took), quantile(took, 0.5), quantile(took, 0.99)
			summary(t, "bulk %s at 1 Mbit/s, %d KiB; small requests beside it: %d, p50 %v, p99 %v", direction, moved>>10, n, ms(p50), ms(p99))
			// In the short run p99 is the worst of a dozen, perhaps on a busy machine.
			if p99 >= pick(1500*time.Millisecond, time.Second) {
				t.Errorf("the p99 of small requests is %v", p99)
			}
			if client.sessions() != 1 || svc.count(0, "session ended") != 0 {
				t.Error("the tunnel has been taken for dead")
			}
		})
	}
}

// bulk moves data until ctx ends, and returns how much.
func bulk(ctx context.Context, t *testing.T, viewer *http.Client, direction, url string) int64 {
	const size = 1 << 30
	if direction == "download" {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/bytes?%d", url, size), nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		resp, err := viewer.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		defer resp.Body.Close()
		n, err := io.Copy(io.Discard, resp.Body)
		if ctx.Err() == nil {
			t.Errorf("the download ended after %d bytes: %v", n, err)
		}
		return n
	}
	body := &counted{Reader: io.LimitReader(content(), size)}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/hash?bulk", body)
	if err != nil {
		t.Error(err)
		return 0
	}
	if status, _, err := do(viewer, req); ctx.Err() == nil {
		t.Errorf("the upload ended: %d %v", status, err)
	}
	return body.n
}

type counted struct {
	io.Reader
	n int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}
