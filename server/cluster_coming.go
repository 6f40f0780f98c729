package server

import (
	"encoding/json"
	"strings"
	"sync"
	"time"
)

// A tunnel client knows its URL from the 101 on, and other nodes hear of its session only
// when it has answered a ping and the directory has been told. So that none of them answers
// 404 meanwhile, the node tells them before the 101 that the tunnel is coming. For a tunnel
// that nobody has said to be coming, "absent" is then true at once.
//
// A node believes that only if it hears all others: see hearsAll.
const (
	controlComing = "coming" // the body is a comingTunnels

	// tellsComing, behind the names of a node, says that it tells what is coming.
	tellsComing = "coming"

	// comingWait is how long a registration waits for other nodes to hear of it, at most.
	comingWait = 250 * time.Millisecond

	// comingLife is how long a tunnel counts as coming: until its session is ready, or
	// not, and the directory has been told.
	comingLife = readyTimeout + 2*time.Second

	maxComingElsewhere = 20_000
)

// comingTunnels are labels of tunnels whose clients are registering at the node that sends
// it.
type comingTunnels struct {
	Labels []label `json:"labels"`
}

// coming is what a node knows of registrations at other nodes.
type coming struct {
	mu      sync.Mutex
	until   map[label]time.Time
	missed  time.Time          // until when there may be tunnels coming for which there was no room
	senders map[string]*sender // by boot
}

// sender is another node that tells what is coming.
type sender struct {
	links int
	since time.Time // when the first of them was made
}

// come notes what another node tells.
func (c *coming) come(all []label) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.until == nil {
		c.until = make(map[label]time.Time)
	}
	if len(c.until)+len(all) > maxComingElsewhere {
		for l, until := range c.until {
			if now.After(until) {
				delete(c.until, l)
			}
		}
	}
	for _, l := range all {
		switch {
		case !isLabel(string(l)):
		case len(c.until) < maxComingElsewhere:
			c.until[label(strings.Clone(string(l)))] = now.Add(comingLife)
		default:
			c.missed = now.Add(comingLife)
		}
	}
}

// waitFor returns until when a request for l waits, since another node has said that it
// is coming; the zero Time if none has.
func (c *coming) waitFor(l label) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.until[l]
	if ok && time.Now().After(until) {
		delete(c.until, l)
		return time.Time{}
	}
	return until
}

// begin is called with the names of a node, as it sends them, that has made a link to this
// one. The function that it returns is called when that ends.
func (c *coming) begin(from string) (end func()) {
	names := strings.Fields(from)
	if len(names) < 3 || names[2] != tellsComing {
		return func() {}
	}
	boot := names[1]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.senders == nil {
		c.senders = make(map[string]*sender)
	}
	s := c.senders[boot]
	if s == nil {
		s = &sender{since: time.Now()}
		c.senders[boot] = s
	}
	s.links++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if s.links--; s.links == 0 {
			delete(c.senders, boot)
		}
	}
}

// hears reports whether the process boot has told what is coming for so long that a
// registration of which it could not tell is over, and whether all of that was noted.
func (c *coming) hears(boot string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.senders[boot]
	return s != nil && time.Since(s.since) > comingLife && time.Now().After(c.missed)
}

// hearsAll reports whether all other nodes tell this one what is coming there.
func (n *node) hearsAll() bool {
	for _, other := range n.member.Status().Nodes {
		if other.Name != n.member.Name() && !n.coming.hears(other.Boot) {
			return false
		}
	}
	return true
}

// news returns until when a request for l waits that the directory has no node for, with
// unknown perhaps, and that began to look then.
func (n *node) news(l label, unknown bool, began time.Time) time.Time {
	if until := n.coming.waitFor(l); !until.IsZero() {
		return until
	}
	if !unknown && n.hearsAll() {
		return began
	}
	return began.Add(newsWait)
}

// patience is how long to wait for an event at most, of left, before the directory is
// asked again: the event may have been lost, or may have come before anybody waited.
func (n *node) patience(l label, left time.Duration) time.Duration {
	if n == nil {
		return left
	}
	if !n.coming.waitFor(l).IsZero() {
		return min(left, time.Second/10)
	}
	return min(left, time.Second)
}

// tellComing tells other nodes that a tunnel client is registering here. It returns when
// they have heard it, or after comingWait.
func (n *node) tellComing(l label) {
	if n == nil || n.srv.registry.has(l) { // then they know
		return
	}
	late := time.NewTimer(comingWait)
	defer late.Stop()
	select {
	case <-n.joined:
	case <-late.C:
		return
	}
	var told []<-chan struct{}
	for _, p := range n.others() {
		told = append(told, p.tell(l))
	}
	for _, t := range told {
		select {
		case <-t:
		case <-late.C:
			return
		}
	}
}

// tell has l told to p, and returns a channel that is closed when that is done, or has
// failed. What is to be told meanwhile goes together.
func (p *peer) tell(l label) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = make(chan struct{})
	}
	p.coming = append(p.coming, l)
	told := p.next
	if !p.telling {
		p.telling = p.node.spawn(p.tellAll)
	}
	return told
}

// tellAll tells p what there is to tell.
func (p *peer) tellAll() {
	for {
		p.mu.Lock()
		all, told := p.coming, p.next
		p.coming, p.next = nil, nil
		if p.telling = len(all) > 0; !p.telling {
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if body, err := json.Marshal(comingTunnels{all}); err == nil {
			_ = p.node.ask(p, controlComing, body) // it waits itself for what it does not hear
		}
		close(told)
	}
}
