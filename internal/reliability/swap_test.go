package reliability

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// TestSwaps covers F6: one id connects again and again under load. The newest
// registration wins, what is in flight on the older ones finishes, and no
// request fails. Its figures come from
//
//	WST_LONG=1 go test -tags http2legacy -run TestSwaps -v -timeout 1h ./internal/reliability
func TestSwaps(t *testing.T) {
	noLeaks(t)
	swaps := pick(30, 1000)
	tg := newTarget(t)
	proxy := tg.handler(t)
	s, _, _ := newMemoryService(t, server.Config{}, faultnet.Options{})
	// Each client says which one it is.
	numbered := func(n int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/who" {
				w.Write(strconv.AppendInt(nil, int64(n), 10))
				return
			}
			proxy.ServeHTTP(w, r)
		})
	}
	connect := func(n int) *client {
		c, err := s.connect("a", numbered(n), tunnelclient.Config{}, 20*time.Second)
		if err != nil {
			t.Fatalf("client %d: %v", n, err)
		}
		return c
	}
	current := connect(0)

	var (
		stop   = make(chan struct{})
		load   sync.WaitGroup
		counts [6]atomic.Int64
		faults atomic.Int64
	)
	rngSeed := seed(t)
	for i := range counts {
		v := newViewer(s, tg, "a", i, rand.New(rand.NewPCG(rngSeed, uint64(i))))
		load.Go(func() {
			defer v.close()
			for {
				select {
				case <-stop:
					return
				default:
				}
				kind, _, out, err := v.exchange()
				if counts[i].Add(1); out != right && faults.Add(1) < 10 {
					t.Errorf("viewer %d, %s: %s: %v", i, kind, out, err)
				}
			}
		})
	}

	// Who answers is never older than who has answered before.
	asker := newViewer(s, tg, "a", len(counts), rand.New(rand.NewPCG(rngSeed, 99)))
	defer asker.close()
	newest := 0
	var longest time.Duration
	var retired sync.WaitGroup
	pace := rand.New(rand.NewPCG(rngSeed, 100))
	for n := 1; n <= swaps && !t.Failed(); n++ {
		next := connect(n)
		begun := time.Now()
		if !tunneltest.Poll(10*time.Second, func() bool {
			who, err := asker.who(t)
			if err != nil || who < newest || who > n {
				t.Fatalf("swap %d: client %d answered after client %d, %v", n, who, newest, err)
			}
			newest = who
			return who == n
		}) {
			t.Fatalf("swap %d: client %d still answers", n, newest)
		}
		longest = max(longest, time.Since(begun))
		old := current
		retired.Go(func() {
			select {
			case <-old.replaced:
			case <-time.After(20 * time.Second):
				t.Errorf("swap %d: the old session goes on", n)
			}
			old.Stop() // before its back-off ends: it would win again
		})
		current = next
		<-time.After(time.Duration(pace.IntN(100)) * time.Millisecond)
	}
	close(stop)
	load.Wait()
	retired.Wait()

	total := int64(0)
	for i := range counts {
		total += counts[i].Load()
	}
	t.Logf("%d swaps, the longest took %v; %d exchanges, %d failed, %d duplicated",
		swaps, longest.Round(time.Millisecond), total, faults.Load(), tg.verdict(t))
}

// who asks which client serves.
func (v *viewer) who(t *testing.T) (int, error) {
	resp, _, err := v.do(t.Context(), "/who", nil, 0)
	if resp == nil {
		return 0, err
	}
	defer resp.Body.Close()
	var n int
	_, err = fmt.Fscan(resp.Body, &n)
	return n, err
}
