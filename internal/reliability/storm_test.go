package reliability

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestStorm covers F7: all tunnels but one lose their connections at the same
// moment and come back, over real sockets, while requests through that one go
// on. Its figures come from
//
//	WST_LONG=1 go test -tags http2legacy -run TestStorm -v -timeout 1h ./internal/reliability
//
// with 10,000 tunnels, whose clients are in one process and the service in
// another.
func TestStorm(t *testing.T) {
	noLeaks(t)
	n := stormSize(t, pick(300, 10_000))
	const first95, last = 30 * time.Second, 45 * time.Second
	s := newTCPService(t, server.Config{})
	if _, err := s.connect("steady", http.HandlerFunc(answerOK), tunnelclient.Config{}, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	before := s.WaitTunnel("steady")
	heap := measure().heap

	begun := time.Now()
	stop := startCrowd(t, s, n)
	if !tunneltest.Poll(2*time.Minute, func() bool {
		<-time.After(pick(0, 50*time.Millisecond)) // counting is work, too
		return s.count() == n+1
	}) {
		t.Fatalf("%d of %d tunnels", s.count(), n+1)
	}
	t.Logf("%d tunnels connected in %v; the service holds %d KiB of heap for each", n,
		time.Since(begun).Round(time.Millisecond), (measure().heap-heap)>>10/uint64(n))

	idle := probe(t, s, "steady", time.After(pick(time.Second, 5*time.Second)))
	var (
		during latencies
		done   = make(chan time.Time)
		probes sync.WaitGroup
	)
	cut := time.Now()
	probes.Go(func() { during = probe(t, s, "steady", done) })
	s.CutOthers(before.RemoteAddr)
	back := func() (k int) {
		for info := range s.Tunnels() {
			if info.ConnectedAt.After(cut) {
				k++
			}
		}
		return k
	}
	var after95, after100 time.Duration
	returned := tunneltest.Poll(2*last, func() bool {
		<-time.After(pick(0, 200*time.Millisecond))
		k := back()
		if after95 == 0 && k*100 >= n*95 {
			after95 = time.Since(cut)
		}
		after100 = time.Since(cut)
		return k == n
	})
	close(done)
	probes.Wait()
	t.Logf("%d tunnels cut: 95 %% back after %v, 100 %% after %v", n, after95.Round(time.Millisecond), after100.Round(time.Millisecond))
	t.Logf("requests of the unaffected tunnel: idle %v; meanwhile %v", idle, during)
	if !returned {
		t.Errorf("only %d of %d tunnels are back", back(), n)
	}
	if after95 == 0 || after95 > first95 || after100 > last {
		t.Errorf("the bounds are %v and %v", first95, last)
	}
	within(t, "p99 of the unaffected tunnel", during.quantile(0.99), idle.quantile(0.99), 10*time.Millisecond)
	if worst := during.quantile(1); worst > 5*time.Second {
		t.Errorf("a request of the unaffected tunnel took %v", worst)
	}
	if now, ok := s.Tunnel("steady"); !ok || !now.ConnectedAt.Equal(before.ConnectedAt) {
		t.Error("the unaffected tunnel was affected")
	}

	// They do not only look as if they were there.
	v := newViewer(s, nil, "", 0, rand.New(rand.NewPCG(1, 1)))
	defer v.close()
	for i := 0; i < n; i += max(1, n/100) {
		v.url = fmt.Sprintf("http://tunnel.test/t%d", i)
		if _, err := v.ask(t.Context()); err != nil {
			t.Errorf("tunnel t%d: %v", i, err)
		}
	}
	stop()
}

// stormSize returns how many tunnels of n fit, and says so if they are fewer.
func stormSize(t *testing.T, n int) int {
	t.Helper()
	files, err := raiseOpenFiles()
	if err != nil {
		t.Fatal(err)
	}
	const others = 500 // also connections on their way out
	fit := min(n, files-others)
	if raceDetector {
		fit = min(fit, 2000) // its goroutines are limited, and its time is not ours
	}
	if fit < n {
		t.Logf("*** %d tunnels instead of %d: open files are limited to %d, race detector: %v", fit, n, files, raceDetector)
	}
	return fit
}

// ask makes one request that has to be answered, and returns how long it took.
func (v *viewer) ask(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeBound)
	defer cancel()
	begun := time.Now()
	resp, out, err := v.do(ctx, "/", nil, 0)
	if resp == nil {
		return 0, fmt.Errorf("%s: %w", out, err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return time.Since(begun), err
}

// latencies are those of successive requests, in ascending order.
type latencies []time.Duration

func (l latencies) quantile(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	return l[int(q*float64(len(l)-1))]
}

func (l latencies) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, max %v of %d", l.quantile(0.5).Round(time.Microsecond),
		l.quantile(0.99).Round(time.Microsecond), l.quantile(1).Round(time.Microsecond), len(l))
}

// probe makes requests until done. Each has to be answered.
func probe(t *testing.T, s *service, id string, done <-chan time.Time) (l latencies) {
	v := newViewer(s, nil, id, 0, rand.New(rand.NewPCG(1, 1)))
	defer v.close()
	for {
		d, err := v.ask(t.Context())
		if err != nil {
			t.Errorf("tunnel %s: %v", id, err)
		}
		l = append(l, d)
		select {
		case <-done:
			slices.Sort(l)
			return l
		case <-time.After(5 * time.Millisecond):
		}
	}
}
