package reliability

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
)

// TestFaultCampaign covers F1, F2, F3, F5, F6, F15, F17, F18 and F24, all at
// once: many tunnels under load, each of which meets one fault after the
// other. Its figures come from
//
//	WST_LONG=1 go test -tags http2legacy -run TestFaultCampaign -v -timeout 1h ./internal/reliability
//
// which injects 10,000 faults. WST_SEED repeats the choices of a run. The
// order in which goroutines meet them differs.
func TestFaultCampaign(t *testing.T) {
	noLeaks(t)
	n := seed(t)
	s, _, viewers := newMemoryService(t, campaignConfig, faultnet.Options{Seed: n})
	c := newCampaign(t, s, n, pick(20, 40), 3)
	c.enough = pick(400, 10_000)
	c.run()
	viewers.ResetAll() // those who have left without a word
	c.end()
	for _, f := range c.faults {
		if c.injected[f.name] == 0 {
			t.Errorf("no fault %q was injected", f.name)
		}
	}
	if !tunneltest.Poll(10*time.Second, func() bool { return len(viewers.Links()) == 0 }) {
		t.Errorf("%d viewers' connections are left", len(viewers.Links()))
	}
}

var campaignConfig = server.Config{
	PingInterval: quick.PingInterval, PingTimeout: quick.PingTimeout, WriteTimeout: quick.WriteTimeout,
	StallTimeout: 3 * time.Second, DrainTimeout: 10 * time.Second,
}

// campaign is a service with tunnels, each with viewers of its own and a
// goroutine that injects faults.
type campaign struct {
	t       *testing.T
	seed    uint64
	service *service
	target  *target // of all tunnels
	handler http.Handler
	tunnels []*tunnel

	// What run does. Static while it runs.
	faults []fault
	enough int           // how many faults end the run; zero: no number does
	pause  time.Duration // at most, between two faults of a driver

	begun   time.Time
	stop    chan struct{} // closed at the end of the load
	workers sync.WaitGroup

	mu        sync.Mutex
	total     int // faults injected
	injected  map[string]int
	outcomes  map[outcome]int
	byKind    map[string]int // exchanges that were right
	longest   map[outcome]time.Duration
	detected  time.Duration // the longest that both ends took to notice the end of a session
	harmless  int           // faults that a session had to survive …
	ended     int           // … and did not
	restarted int           // clients whose back-off had grown too long
	reported  int
}

// newCampaign connects n tunnels, each with some viewers, without load. They
// will meet all faults there are.
func newCampaign(t *testing.T, s *service, seed uint64, n, viewers int) *campaign {
	t.Helper()
	c := &campaign{
		t: t, seed: seed, service: s, target: newTarget(t),
		faults: allFaults, pause: 150 * time.Millisecond,
		injected: make(map[string]int), outcomes: make(map[outcome]int),
		byKind: make(map[string]int), longest: make(map[outcome]time.Duration),
	}
	c.handler = c.target.handler(t)
	for i := range n {
		tun := &tunnel{id: fmt.Sprint("t", i), c: c, rng: rand.New(rand.NewPCG(c.seed, uint64(i)<<8))}
		for k := range viewers {
			v := newViewer(s, c.target, tun.id, k, rand.New(rand.NewPCG(c.seed, uint64(i)<<8|uint64(k+1))))
			v.leaves, v.breaks = true, true
			tun.viewers = append(tun.viewers, v)
		}
		tun.client = tun.connect()
		s.WaitTunnel(tun.id)
		c.tunnels = append(c.tunnels, tun)
	}
	return c
}

// run makes load and faults until there were enough, or finish is called.
func (c *campaign) run() {
	c.begun, c.stop = time.Now(), make(chan struct{})
	for _, tun := range c.tunnels {
		for _, v := range tun.viewers {
			c.workers.Go(func() { tun.load(v) })
		}
		c.workers.Go(tun.drive)
	}
	c.workers.Wait()
}

// finish ends the load.
func (c *campaign) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped() {
		close(c.stop)
	}
}

func (c *campaign) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// count counts a fault.
func (c *campaign) count(fault string) {
	c.mu.Lock()
	c.total++
	c.injected[fault]++
	enough := c.total == c.enough
	c.mu.Unlock()
	if enough {
		c.finish()
	}
}

// survived counts what a fault that is to be survived has done to a session.
func (c *campaign) survived(yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.harmless++
	if !yes {
		c.ended++
	}
}

// settle counts the end of an exchange.
func (c *campaign) settle(tun *tunnel, v *viewer, kind string, out outcome, took time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[out]++
	c.longest[out] = max(c.longest[out], took)
	switch out {
	case right:
		c.byKind[kind]++
	case lost, hung, twice:
		if c.reported++; c.reported <= 20 {
			c.t.Errorf("seed %d, %.3f s, viewer %s, %s, after %v: %s: %v\n\tlast faults of the tunnel: %s",
				c.seed, time.Since(c.begun).Seconds(), v.name, kind, took, out, err, tun.history())
		}
	}
}

// load makes one exchange after the other.
func (tun *tunnel) load(v *viewer) {
	defer v.close()
	for !tun.c.stopped() {
		begun := time.Now()
		kind, fault, out, err := v.exchange()
		tun.c.settle(tun, v, kind, out, time.Since(begun), err)
		if fault != "" && out != refused {
			tun.c.count(fault)
		}
		pause := time.Duration(v.rng.IntN(20)) * time.Millisecond
		if out == refused || out == broken {
			pause += 400 * time.Millisecond // as a person would
		}
		<-time.After(pause)
	}
}

// end checks that nothing is in flight and stops the clients, after which there
// are no tunnels, and prints the figures.
func (c *campaign) end() {
	c.t.Helper()
	took := time.Since(c.begun)
	if !tunneltest.Poll(20*time.Second, func() bool { return c.service.InFlight() == 0 }) {
		c.t.Errorf("seed %d: %d requests are still in flight", c.seed, c.service.InFlight())
	}
	for _, tun := range c.tunnels {
		tun.client.Stop()
	}
	if !tunneltest.Poll(20*time.Second, func() bool { return c.service.count() == 0 }) {
		c.t.Errorf("seed %d: %d tunnels are left", c.seed, c.service.count())
	}
	duplicated := c.target.verdict(c.t)

	var injected, ends []string
	for _, name := range slices.Sorted(maps.Keys(c.injected)) {
		injected = append(injected, fmt.Sprintf("%s %d", name, c.injected[name]))
	}
	all := 0
	for _, n := range c.outcomes {
		all += n
	}
	for _, out := range []outcome{right, refused, broken, left} {
		ends = append(ends, fmt.Sprintf("%s %d (longest %v)", out, c.outcomes[out], c.longest[out].Round(time.Millisecond)))
	}
	c.t.Logf("seed %d: %d faults in %v: %s", c.seed, c.total, took.Round(time.Millisecond), strings.Join(injected, ", "))
	c.t.Logf("%d exchanges: %s; %d lost, %d hung, %d duplicated", all, strings.Join(ends, ", "),
		c.outcomes[lost], c.outcomes[hung], max(duplicated, c.outcomes[twice]))
	c.t.Logf("right by kind: %v; the end of a session was noticed by both ends after at most %v; %d clients started anew because of their back-off",
		c.byKind, c.detected.Round(time.Millisecond), c.restarted)
	c.t.Logf("of %d faults that a session has to survive %d ended it", c.harmless, c.ended)
	if c.ended > 1+c.harmless/100 { // a busy machine may be late with the answer to a ping
		c.t.Errorf("seed %d: of %d faults that a session has to survive %d ended it", c.seed, c.harmless, c.ended)
	}
	if c.outcomes[right] < all/10 {
		c.t.Errorf("only %d of %d exchanges were right: the campaign proves little", c.outcomes[right], all)
	}
}
