package reliability

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// tunnel is one id of a campaign.
type tunnel struct {
	id      string
	c       *campaign
	rng     *rand.Rand // of its driver
	viewers []*viewer
	client  *client        // owned by the driver while it runs
	cutting *faultnet.Link // that will be cut when so many bytes have passed; likewise

	mu   sync.Mutex
	last []string // the latest faults
}

// fault is something that a driver does to its tunnel.
type fault struct {
	name   string
	weight int
	inject func(*tunnel)
	// fatal says that it ends the session, so that the next fault waits for
	// another one.
	fatal bool

	// harmless says that the session has to survive it.
	harmless bool
	// viewers says that it is about a viewer's connection.
	viewers bool
}

var allFaults = []fault{
	{name: "reset", weight: 3, inject: (*tunnel).reset, fatal: true},
	{name: "half-open", weight: 3, inject: (*tunnel).halfOpen, fatal: true},
	{name: "short stall", weight: 6, inject: (*tunnel).shortStall, harmless: true},
	{name: "long stall", weight: 2, inject: (*tunnel).longStall, fatal: true},
	{name: "truncation", weight: 2, inject: (*tunnel).truncate},
	{name: "slicing", weight: 4, inject: (*tunnel).slice, harmless: true},
	{name: "delay and jitter", weight: 4, inject: (*tunnel).delay, harmless: true},
	{name: "slow link", weight: 3, inject: (*tunnel).slow, harmless: true},
	{name: "client killed", weight: 3, inject: (*tunnel).killClient},
	{name: "client leaves", weight: 2, inject: (*tunnel).leave},
	{name: "session killed", weight: 3, inject: (*tunnel).killSession, fatal: true},
	{name: "replacement", weight: 4, inject: (*tunnel).replace},
	{name: "viewer's reset", weight: 5, inject: (*tunnel).viewerReset, viewers: true, harmless: true},
	{name: "viewer's truncation", weight: 4, inject: (*tunnel).viewerTruncate, viewers: true, harmless: true},
	{name: "viewer's stall", weight: 3, inject: (*tunnel).viewerStall, viewers: true, harmless: true},
	{name: "viewer's slicing", weight: 3, inject: (*tunnel).viewerSlice, viewers: true, harmless: true},
}

// drive injects one fault after the other.
func (tun *tunnel) drive() {
	total := 0
	for _, f := range tun.c.faults {
		total += f.weight
	}
	for !tun.c.stopped() {
		n := tun.rng.IntN(total)
		f := tun.c.faults[slices.IndexFunc(tun.c.faults, func(f fault) bool { n -= f.weight; return n < 0 })]
		forget(tun.client.connected, tun.client.lost)
		if !tun.client.up.Load() { // another fault has ended its session by and by
			tun.revive()
			continue
		}
		session, _ := tun.c.service.Tunnel(tun.id)
		link := tun.client.link()
		tun.note(f.name)
		f.inject(tun)
		tun.c.count(f.name)
		if f.fatal {
			tun.buried(f.name, session)
			link.Reset() // a black hole forgets in the end
			tun.revive()
		}
		<-time.After(tun.within(0, tun.c.pause))
		if f.harmless && link != tun.cutting && session.RemoteAddr == link.SeenAs.String() {
			now, _ := tun.c.service.Tunnel(tun.id)
			tun.c.survived(now.ConnectedAt.Equal(session.ConnectedAt))
		}
	}
}

func (tun *tunnel) note(fault string) {
	tun.mu.Lock()
	defer tun.mu.Unlock()
	tun.last = append(tun.last, fmt.Sprintf("%.3f s %s", time.Since(tun.c.begun).Seconds(), fault))
	if len(tun.last) > 6 {
		tun.last = tun.last[1:]
	}
}

func (tun *tunnel) history() string {
	tun.mu.Lock()
	defer tun.mu.Unlock()
	return strings.Join(tun.last, "; ")
}

// connect starts a client and waits for it.
func (tun *tunnel) connect() *client {
	cfg := tunnelclient.Config{
		PingInterval: quick.PingInterval, PingTimeout: quick.PingTimeout, WriteTimeout: quick.WriteTimeout,
		DrainTimeout: 5 * time.Second,
	}
	for range 3 {
		c, err := tun.c.service.connect(tun.id, tun.c.handler, cfg, 20*time.Second)
		if err == nil {
			return c
		}
		tun.c.t.Errorf("%s: %v", tun.id, err)
	}
	tun.c.t.Error("giving up")
	return tun.c.service.start(tun.id, tun.c.handler, cfg)
}

// noticed is how long it may take at most until an end knows of a fatal fault:
// detection, except that a client whose connection dies between the 101 and
// the first bytes of HTTP/2 waits 10 s for those, a constant of x/net. The rest
// is for busy machines.
const noticed = 10*time.Second + 8*time.Second

// buried waits until both ends have given up the session that a fault has
// ended.
func (tun *tunnel) buried(fault string, session server.TunnelInfo) {
	begun := time.Now()
	select {
	case <-tun.client.lost:
	case <-tun.client.connected: // it was between two sessions
	case <-time.After(noticed):
		tun.c.t.Errorf("seed %d, %s: %v after %q the client takes its session for alive", tun.c.seed, tun.id, noticed, fault)
	}
	if !tunneltest.Poll(noticed, func() bool {
		now, ok := tun.c.service.Tunnel(tun.id)
		return !ok || !now.ConnectedAt.Equal(session.ConnectedAt)
	}) {
		tun.c.t.Errorf("seed %d, %s: %v after %q the service takes the session for alive", tun.c.seed, tun.id, noticed, fault)
	}
	tun.c.mu.Lock()
	defer tun.c.mu.Unlock()
	tun.c.detected = max(tun.c.detected, time.Since(begun))
}

// revive waits until the client has connected again, but not for all of a long
// back-off: that is for clients whose sessions die all the time, as they do
// here.
func (tun *tunnel) revive() {
	select {
	case <-tun.client.connected:
	case <-time.After(time.Second):
		tun.c.mu.Lock()
		tun.c.restarted++
		tun.c.mu.Unlock()
		tun.client.kill()
		tun.client = tun.connect()
	}
}

// direction returns one of the two directions of the client's link, by chance.
func (tun *tunnel) direction() *faultnet.Direction {
	l := tun.client.link()
	if tun.rng.IntN(2) == 0 {
		return l.Up
	}
	return l.Down
}

func (tun *tunnel) reset()    { tun.client.link().Reset() }
func (tun *tunnel) halfOpen() { tun.client.link().HalfOpen() }

// within returns a random time between two bounds.
func (tun *tunnel) within(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(tun.rng.Int64N(int64(hi-lo)))
}

// shortStall is one that no end may take for the end of the other.
func (tun *tunnel) shortStall() {
	tun.direction().StallFor(tun.within(0, detection/4))
}

func (tun *tunnel) longStall() {
	tun.direction().StallFor(tun.within(2*detection, 3*detection))
}

// truncate ends the session only when so many bytes have passed.
func (tun *tunnel) truncate() {
	tun.cutting = tun.client.link() // perhaps much later
	tun.direction().CutAfter(tun.rng.IntN(64 << 10))
	select {
	case <-tun.client.lost:
		tun.revive()
	case <-time.After(time.Second):
	}
}

// either sets faults on both directions for a while.
func (tun *tunnel) either(f faultnet.Faults) {
	l := tun.client.link()
	l.Up.Set(f)
	l.Down.Set(f)
	<-time.After(tun.within(0, 500*time.Millisecond))
	l.Up.Set(faultnet.Faults{})
	l.Down.Set(faultnet.Faults{})
}

func (tun *tunnel) slice() { tun.either(faultnet.Faults{Slice: 1 + tun.rng.IntN(1000)}) }

func (tun *tunnel) delay() {
	tun.either(faultnet.Faults{
		Delay:  tun.within(0, 100*time.Millisecond),
		Jitter: tun.within(1, 100*time.Millisecond),
	})
}

func (tun *tunnel) slow() {
	tun.either(faultnet.Faults{Rate: 128<<10 + tun.rng.IntN(1<<20), Buffer: 32 << 10})
}

func (tun *tunnel) killClient() {
	tun.client.kill()
	tun.client = tun.connect()
}

// leave ends a client in good order: it finishes what it has.
func (tun *tunnel) leave() {
	tun.client.Stop()
	tun.client = tun.connect()
}

// killSession closes the service's end.
func (tun *tunnel) killSession() {
	tun.c.service.Cut(tun.client.link().SeenAs.String())
}

// replace starts a second client, which wins.
func (tun *tunnel) replace() {
	old := tun.client
	tun.client = tun.connect()
	tun.c.workers.Go(func() {
		select {
		case <-old.replaced:
		case <-time.After(2 * time.Second): // or it would come back
		}
		old.Stop()
	})
}

// viewer returns one of the viewers, by chance, and the link of its last
// request. Before the first one that is a link that leads nowhere.
func (tun *tunnel) viewer() (*viewer, *faultnet.Link) {
	v := tun.viewers[tun.rng.IntN(len(tun.viewers))]
	c := v.conn.Load()
	if c == nil {
		return v, nowhere()
	}
	return v, c.Link()
}

func (tun *tunnel) viewerReset() {
	_, l := tun.viewer()
	l.Reset()
}

func (tun *tunnel) viewerTruncate() {
	v, l := tun.viewer()
	v.cuts.Store(l, true)
	n := tun.rng.IntN(32 << 10)
	if tun.rng.IntN(2) == 0 {
		l.Up.CutAfter(n)
	} else {
		l.Down.CutAfter(n)
	}
}

func (tun *tunnel) viewerStall() {
	_, l := tun.viewer()
	l.Up.StallFor(tun.within(0, time.Second))
	l.Down.StallFor(tun.within(0, time.Second))
}

func (tun *tunnel) viewerSlice() {
	_, l := tun.viewer()
	f := faultnet.Faults{Slice: 1 + tun.rng.IntN(1000)}
	l.Up.Set(f)
	l.Down.Set(f)
}
