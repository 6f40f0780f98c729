package server

import (
	"context"
	"time"
)

const (
	// settleWait is how long a request waits for the first session of its tunnel:
	// for one registration, and for one more if that came to nothing. A tunnel
	// client that registers again and again is not to hold its viewers for ever.
	settleWait = 2 * readyTimeout

	// maxExpecting is how many may wait for a first announcement, for all ids
	// together. It bounds what viewers of made up ids can pile up.
	maxExpecting = 20_000
)

// lookup returns the active session of l. If there is none but one has been
// announced, it waits for that, up to settleWait. It returns nil if there is
// none, or if ctx ends first, and errBusy if too many wait already.
func (g *registry) lookup(ctx context.Context, l label) (*session, error) {
	var late <-chan time.Time
	for {
		g.mu.Lock()
		tun := g.tunnels[l]
		if tun == nil || !tun.up {
			g.mu.Unlock()
			return nil, nil
		}
		if s := tun.active; s != nil {
			g.mu.Unlock()
			return s, nil
		}
		if tun.awaiting >= maxWaiting {
			g.mu.Unlock()
			return nil, errBusy
		}
		tun.awaiting++
		changed := tun.changed
		g.mu.Unlock()
		if late == nil {
			timer := time.NewTimer(settleWait)
			defer timer.Stop()
			late = timer.C
		}
		over := false
		select {
		case <-changed:
		case <-late:
			over = true
		case <-ctx.Done():
			over = true
		}
		g.mu.Lock()
		tun.awaiting--
		g.mu.Unlock()
		if over {
			return nil, nil
		}
	}
}

// expect waits until a registration of l is announced, or until ctx ends, and
// reports which.
func (g *registry) expect(ctx context.Context, l label) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnelLocked(l)
	defer g.tidyLocked(tun)
	if tun.up || g.expecting >= maxExpecting {
		return tun.up
	}
	tun.expecting++
	g.expecting++
	changed := tun.changed
	g.mu.Unlock()
	come := true
	select {
	case <-changed:
	case <-ctx.Done():
		come = false
	}
	g.mu.Lock()
	tun.expecting--
	g.expecting--
	return come || tun.up
}
