//go:build linux

package processes

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// TestNodesHop measures what the hop between two processes costs: a request by way of
// another node against one by the node that has the tunnel, in rounds that alternate. Of bulk
// data it counts CPU, for in a run of this kind all parties share a machine: with a core for
// each, a transfer is as fast as the busiest process.
func TestNodesHop(t *testing.T) {
	needProcesses(t)
	size := pick(int64(16<<20), int64(256<<20))
	rounds := pick(1, 8)
	perRound := pick(50, 1500)
	c := newCluster(t, 1, clusterOptions{env: []string{"STARTUP_WAIT=off"}})
	bulk := launchClient(t, here, "http://"+c.lb.addr, "bulk", bulkTarget(t))
	bulk.connect()
	c.clients = []*tunnelClient{bulk}
	c.whole(patience)
	holder := c.holder(bulk)
	entry := c.others(holder)[0]
	ask := func(n *node, path string, body []byte) {
		t.Helper()
		method, r := http.MethodGet, io.Reader(nil)
		if body != nil {
			method, r = http.MethodPost, bytes.NewReader(body)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, at(n, bulk)+path, r)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.viewer.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || path != "/" && body == nil && n != size {
			t.Fatal(resp.StatusCode, n, err)
		}
	}
	payload := make([]byte, size)
	type cost struct {
		took, holder, entry, client time.Duration
		latency                     []time.Duration
	}
	costs := make(map[string]*cost)
	measure := func(key string, f func(k *cost)) {
		k := costs[key]
		if k == nil {
			k = new(cost)
			costs[key] = k
		}
		h, e, cl, begun := holder.cpuTime(), entry.cpuTime(), bulk.cpuTime(), time.Now()
		f(k)
		k.took += time.Since(begun)
		k.holder += holder.cpuTime() - h
		k.entry += entry.cpuTime() - e
		k.client += bulk.cpuTime() - cl
	}
	for range rounds {
		for way, n := range map[string]*node{"local": holder, "hop": entry} {
			measure("download "+way, func(*cost) { ask(n, "/bytes?"+strconv.FormatInt(size, 10), nil) })
			measure("upload "+way, func(*cost) { ask(n, "/", payload) })
			measure("request "+way, func(k *cost) {
				pace := time.NewTicker(2 * time.Millisecond)
				defer pace.Stop()
				for range perRound {
					<-pace.C
					begun := time.Now()
					ask(n, "/", nil)
					k.latency = append(k.latency, time.Since(begun))
				}
			})
		}
	}
	mib := float64(size>>20) * float64(rounds)
	for _, what := range []string{"download", "upload"} {
		local, hop := costs[what+" local"], costs[what+" hop"]
		busiest := max(hop.holder, hop.entry, hop.client)
		before := max(local.holder, local.client)
		summary(t, "%s: %.0f MiB/s and %.2f ms of CPU per MiB of the node (client %.2f) here; %.0f MiB/s and %.2f + %.2f (client %.2f) by another node; the busiest process has %.2f of the work that it has here",
			what, mib/local.took.Seconds(), perMiB(local.holder, mib), perMiB(local.client, mib),
			mib/hop.took.Seconds(), perMiB(hop.holder, mib), perMiB(hop.entry, mib), perMiB(hop.client, mib), float64(busiest)/float64(max(before, 1)))
	}
	local, hop := costs["request local"], costs["request hop"]
	n := float64(len(local.latency))
	summary(t, "requests, 500 a second: p50 %v and %.0f µs of CPU of the node here; p50 %v and %.0f + %.0f µs by another node",
		quantile(local.latency, 0.5).Round(time.Microsecond), perRequest(local.holder, n), quantile(hop.latency, 0.5).Round(time.Microsecond), perRequest(hop.holder, n), perRequest(hop.entry, n))
}

func perMiB(d time.Duration, mib float64) float64   { return d.Seconds() * 1000 / mib }
func perRequest(d time.Duration, n float64) float64 { return d.Seconds() * 1e6 / n }

// bulkTarget answers /bytes?n with n bytes as fast as it can, and reads what it is sent.
func bulkTarget(t *testing.T) net.Addr {
	t.Helper()
	ln := here.listen(t, "127.0.0.1:0")
	piece := make([]byte, 256<<10)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/bytes" {
			fmt.Fprint(w, r.URL.RawQuery) // as a test waits for
			return
		}
		n, err := strconv.ParseInt(r.URL.RawQuery, 10, 64)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Length", r.URL.RawQuery)
		for n > 0 && err == nil {
			var k int
			k, err = w.Write(piece[:min(n, int64(len(piece)))])
			n -= int64(k)
		}
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
	return ln.Addr()
}
