package server

import "context"

const (
	// settleWait is how long a request waits for the first session of its tunnel:
	// for one registration, and for one more if that came to nothing. A tunnel
	// client that registers again and again must not hold its viewers for ever.
	settleWait = 2 * readyTimeout

	// maxExpecting is how many may wait for a first announcement, for all ids
	// together. It bounds the requests for invented ids.
	maxExpecting = 20_000
)

// lookup returns the active session of l, or one beside it that carries fewer
// requests. If there is none but one has been announced, or its client has been asked
// for one, it waits for that, up to settleWait. It returns nil if there is none, or if
// ctx ends first, errBusy if too many wait already, and errNotReplaced if the client does
// not do as it is asked.
func (g *registry) lookup(ctx context.Context, l label) (*session, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var wait context.Context
	for {
		tun := g.tunnels[l]
		switch {
		case tun == nil || !tun.up:
			return nil, nil
		case tun.active != nil:
			return tun.leastBusyLocked(), nil
		case tun.awaiting >= maxWaiting:
			return nil, errBusy
		}
		if wait == nil {
			var cancel context.CancelFunc
			wait, cancel = context.WithTimeout(ctx, settleWait)
			defer cancel()
		}
		tun.awaiting++
		come := g.waitLocked(wait, tun)
		tun.awaiting--
		if !come {
			if tun.owed != nil {
				return nil, errNotReplaced
			}
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
	come := g.waitLocked(ctx, tun)
	tun.expecting--
	g.expecting--
	return come || tun.up
}

// waitLocked waits for a change of tun, and reports false if ctx ends first. It
// gives up the lock meanwhile.
func (g *registry) waitLocked(ctx context.Context, tun *tunnel) bool {
	if tun.changed == nil {
		tun.changed = make(chan struct{})
	}
	changed := tun.changed
	g.mu.Unlock()
	defer g.mu.Lock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
