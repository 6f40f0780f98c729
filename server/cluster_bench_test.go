//go:build unix

package server

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// BenchmarkHop compares requests by the node that has the tunnel with those by another one.
func BenchmarkHop(b *testing.B) {
	const size = 64 << 20
	nodes := newNodes(b, 2, new(cluster.Memory), Config{})
	payload := make([]byte, size)
	c := nodes[0].connect("here", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			w.Header().Set("Content-Length", strconv.Itoa(size))
			w.Write(payload)
			return
		}
		io.Copy(io.Discard, r.Body)
	}))
	nodes[0].waitActive(c)
	nodes[0].waitAnnounced()
	for _, s := range nodes {
		s.http.Transport.(*http.Transport).MaxIdleConnsPerHost = 64
	}
	do := func(b *testing.B, s *testService, path string, body []byte) {
		method := http.MethodGet
		var r io.Reader
		if body != nil {
			method, r = http.MethodPost, bytes.NewReader(body)
		}
		req, err := http.NewRequestWithContext(b.Context(), method, s.url+"/here"+path, r)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := s.http.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 || path == "/down" && n != size {
			b.Fatal(resp.StatusCode, n, err)
		}
	}
	ways := []struct {
		name string
		s    *testService
	}{{"local", nodes[0]}, {"hop", nodes[1]}}
	for _, way := range ways {
		b.Run("c1/"+way.name, func(b *testing.B) {
			cpu := cpuTime(b)
			for b.Loop() {
				do(b, way.s, "/", nil)
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
		b.Run("c32/"+way.name, func(b *testing.B) {
			cpu := cpuTime(b)
			var wg sync.WaitGroup
			left := make(chan struct{}, 32)
			for range 32 {
				wg.Go(func() {
					for range left {
						do(b, way.s, "/", nil)
					}
				})
			}
			for range b.N {
				left <- struct{}{}
			}
			close(left)
			wg.Wait()
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
		b.Run("download/"+way.name, func(b *testing.B) {
			b.SetBytes(size)
			cpu := cpuTime(b)
			for b.Loop() {
				do(b, way.s, "/down", nil)
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
		b.Run("upload/"+way.name, func(b *testing.B) {
			b.SetBytes(size)
			cpu := cpuTime(b)
			for b.Loop() {
				do(b, way.s, "/up", payload)
			}
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
