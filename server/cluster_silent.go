package server

import (
	"context"
	"errors"
	"time"
)

// A node that has fallen silent holds the requests that are on their way to it until the
// link's ping finds that out. The tunnels often come back elsewhere before: a request that
// may be made twice, and has no answer yet, then goes after its tunnel, if the link answers
// no ping at once. All others wait for what the link's own pings say.
const (
	silentLink = time.Second            // without a byte, for a link to be tried
	silentPing = 250 * time.Millisecond // for its answer
)

var errNodeSilent = errors.New("server: the node that had the tunnel is silent, and the tunnel is elsewhere")

// moved says that a session of l has come into service, here or at another node.
func (n *node) moved(l label) {
	if n == nil {
		return
	}
	n.mu.Lock()
	var peers []*peer
	if n.hops > 0 && !n.closed {
		for _, p := range n.peers {
			peers = append(peers, p)
		}
	}
	n.mu.Unlock()
	for _, p := range peers {
		p.mu.Lock()
		for _, link := range p.links {
			if waiting := link.waiting(l); len(waiting) > 0 {
				n.spawn(func() { link.leave(waiting) })
			}
		}
		p.mu.Unlock()
	}
}

// waiting returns the attempts for the tunnel of tunnel that could be made elsewhere, if
// nothing has come from the link for a while.
func (l *link) waiting(tunnel label) (list []*attempt) {
	if l.conn.SilentFor() < silentLink {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.attempts {
		if a.x.tunnel == tunnel && a.repeatable.Load() {
			list = append(list, a)
		}
	}
	return list
}

// leave ends attempts that could be made elsewhere, unless the link answers.
func (l *link) leave(list []*attempt) {
	ctx, cancel := context.WithTimeout(l.peer.node.ctx, silentPing)
	defer cancel()
	if l.tr.Ping(ctx) == nil || l.conn.SilentFor() < silentPing {
		return
	}
	for _, a := range list {
		if a.repeatable.Swap(false) {
			a.cancel(errNodeSilent)
		}
	}
}
