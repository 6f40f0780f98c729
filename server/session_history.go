package server

import (
	"container/list"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// historySpan is for how long reconnections count, and for how long a tunnel
	// that has gone is remembered.
	historySpan = 10 * time.Minute

	// maxGone is how many of those are remembered, and gonePart the part of the
	// memory budget that they may need. The ones that went first make room.
	maxGone  = 10_000
	gonePart = 32

	// What one of them costs in bytes, besides its id, and each of its failures.
	goneCost    = 1 << 10
	failureCost = 256

	// flapping is how many reconnections within historySpan are called that.
	flapping = 5
)

// past is what is known of the sessions that a tunnel had before. While the tunnel is
// up, its entry in the registry has it, and history when it has gone. A tunnel that
// has never lost a session has none.
type past struct {
	label      label
	reconnects window

	// Of the session that was the last one to stop taking requests:
	left       time.Time // when it did
	registered time.Time
	reason     string       // a word of endReasons
	last       *lastSession // nil while another session takes requests

	cost int64         // in history
	at   *list.Element // its place there
}

// lastSession is what the tunnel of a session was like when that stopped taking
// requests.
type lastSession struct {
	info     TunnelInfo
	grant    grant // for an operator who evicts it while it is away
	failures []RequestFailure
}

// describe puts into info what p knows.
func (p *past) describe(info *TunnelInfo, now time.Time) {
	info.Reconnects, info.LastEnd, info.LastEndReason = p.reconnects.sum(now), p.left, p.reason
}

// window counts what has happened within historySpan, by the minute.
type window struct {
	minute int64 // of the last one that is counted
	counts [historySpan / time.Minute]uint32
}

// turn forgets what is too old.
func (w *window) turn(now time.Time) {
	minute := now.Unix() / 60
	for range min(minute-w.minute, int64(len(w.counts))) {
		w.minute++
		w.counts[w.minute%int64(len(w.counts))] = 0
	}
	w.minute = max(minute, w.minute) // clocks are set back, too
}

func (w *window) add(now time.Time) {
	w.turn(now)
	w.counts[w.minute%int64(len(w.counts))]++
}

func (w window) sum(now time.Time) (n int) {
	w.turn(now)
	for _, c := range w.counts {
		n += int(c)
	}
	return n
}

// history has the tunnels that have gone a short while ago. The registry's lock guards
// it.
type history struct {
	memory *budget.Holding // what they need
	limit  int64           // of that in bytes; 0: none
	gone   map[label]*past
	order  list.List // of them, the one that went first in front
}

// put remembers a tunnel that has gone, if there is room.
func (h *history) put(p *past, now time.Time) {
	h.trim(now)
	p.cost = goneCost + 2*int64(len(p.last.info.ID)) + failureCost*int64(len(p.last.failures))
	for len(h.gone) >= maxGone || h.limit > 0 && h.memory.Bytes()+p.cost > h.limit || h.memory.Admit(p.cost) != nil {
		if h.order.Len() == 0 {
			return
		}
		h.remove(h.order.Front().Value.(*past))
	}
	p.at = h.order.PushBack(p)
	h.gone[p.label] = p
}

func (h *history) remove(p *past) {
	h.order.Remove(p.at)
	delete(h.gone, p.label)
	h.memory.Add(-p.cost)
}

// trim forgets the tunnels that went too long ago.
func (h *history) trim(now time.Time) {
	for h.order.Len() > 0 {
		p := h.order.Front().Value.(*past)
		if now.Sub(p.left) < historySpan {
			return
		}
		h.remove(p)
	}
}

// take returns what is remembered of l and forgets it. It may be nil.
func (h *history) take(l label, now time.Time) *past {
	h.trim(now)
	p := h.gone[l]
	if p != nil {
		h.remove(p)
	}
	return p
}

// leaveLocked notes that s, of tun, takes no requests any more.
func (tun *tunnel) leaveLocked(s *session) {
	p := tun.past
	if p == nil {
		p = &past{label: tun.label}
		tun.past = p
	}
	info, _ := s.info()
	p.left, p.registered, p.reason = time.Now(), s.since, endReason(s.closeCode())
	p.last = &lastSession{info: info, grant: s.inForce()}
}

// goLocked moves what is known of tun, which has no session that takes requests and
// waits for none, to the history.
func (g *registry) goLocked(tun *tunnel) {
	if p := tun.past; p != nil {
		tun.describe(&p.last.info)
		p.last.failures = tun.failures
		tun.past = nil
		g.history.put(p, time.Now())
	}
	tun.replacements, tun.replaced, tun.failed, tun.failures = 0, "", 0, nil
}

// returnLocked notes that tun has a session again, and returns why it had none, and
// how often it has connected anew. after is empty if it is not known to have had one.
func (g *registry) returnLocked(tun *tunnel) (after string, reconnects int) {
	now := time.Now()
	p := tun.past
	if p == nil {
		if p = g.history.take(tun.label, now); p == nil {
			return "", 0
		}
		was := p.last.info
		tun.past = p
		tun.replacements, tun.replaced, tun.failed = was.Replacements, was.ReplacedAddr, tun.failed+was.Failed
		all := append(tun.failures[:len(tun.failures):len(tun.failures)], p.last.failures...)
		tun.failures = all[:min(len(all), maxFailures)]
	}
	p.last = nil
	p.reconnects.add(now)
	return p.reason, p.reconnects.sum(now)
}

// pastLocked returns what is known of the earlier sessions of l, or nil.
func (g *registry) pastLocked(l label) *past {
	if tun := g.tunnels[l]; tun != nil && tun.past != nil {
		return tun.past
	}
	return g.history.gone[l]
}

// noteEnd notes why s has ended.
func (g *registry) noteEnd(s *session, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.pastLocked(s.label); p != nil && p.registered.Equal(s.since) {
		p.reason = reason
	}
}

// evictGoneLocked blocks the tokens of a tunnel that is away, and reports whether
// there was one.
func (g *registry) evictGoneLocked(l label, now time.Time) bool {
	g.history.trim(time.Now())
	p := g.pastLocked(l)
	if p == nil || p.last == nil || p.reason == endReason(wire.CloseEvicted) {
		return false
	}
	g.evictions.block(p.last.grant, now)
	p.reason = endReason(wire.CloseEvicted)
	return true
}

// goneLocked describes the tunnel of p, which takes no requests.
func (g *registry) goneLocked(p *past, now time.Time) TunnelInfo {
	info := p.last.info
	info.Gone, info.InFlight, info.Connections = true, 0, 0
	if tun := g.tunnels[p.label]; tun != nil {
		if tun.past == p { // it waits for a session
			tun.describe(&info)
		}
		for _, s := range tun.older {
			old, _ := s.info()
			info.InFlight += old.InFlight
		}
	}
	p.describe(&info, now)
	return info
}

// gone describes the tunnels that take no requests, but have done so a short while
// ago, in no particular order.
func (g *registry) gone() []TunnelInfo {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history.trim(now)
	list := make([]TunnelInfo, 0, len(g.history.gone))
	for _, p := range g.history.gone {
		list = append(list, g.goneLocked(p, now))
	}
	for _, tun := range g.tunnels {
		if tun.past != nil && tun.active == nil {
			list = append(list, g.goneLocked(tun.past, now))
		}
	}
	return list
}

// flapping returns how many tunnels connect again and again, whether they are here
// now or not.
func (g *registry) flapping() (n int) {
	now := time.Now()
	count := func(p *past) {
		if p.reconnects.sum(now) >= flapping {
			n++
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.history.trim(now)
	for _, p := range g.history.gone {
		count(p)
	}
	for _, tun := range g.tunnels {
		if tun.past != nil {
			count(tun.past)
		}
	}
	return n
}
