package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// NodeInfo describes a node of the cluster as this one sees it.
type NodeInfo struct {
	cluster.NodeStatus

	// Self says that it is this node. What follows is about the way to another one.
	Self bool

	// Links are the connections to it, and InFlight the requests on them.
	Links, InFlight int

	// Requests are those of viewers of this node that have gone there.
	Requests uint64

	// RoundTrip is how long the last ping took. Zero: there has been none.
	RoundTrip time.Duration

	// Received and Sent are the bytes of bodies and upgraded connections that have gone
	// there from viewers of this node, and come from there.
	Received, Sent int64

	// Fault says why the last try to connect has failed, or is empty.
	Fault string
}

// Nodes returns the nodes of the cluster, this one first and the others by name. It is
// empty if the service is alone.
func (s *Server) Nodes() []NodeInfo {
	n := s.cluster
	if n == nil {
		return nil
	}
	var list []NodeInfo
	for _, other := range n.member.Status().Nodes {
		info := NodeInfo{NodeStatus: other, Self: other.Name == n.member.Name()}
		n.mu.Lock()
		p := n.peers[other.Name]
		n.mu.Unlock()
		if p != nil && p.of.Boot == other.Boot {
			p.describe(&info)
		}
		list = append(list, info)
	}
	slices.SortFunc(list, func(a, b NodeInfo) int {
		if a.Self != b.Self {
			if a.Self {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	return list
}

func (p *peer) describe(info *NodeInfo) {
	info.RoundTrip = time.Duration(p.ping.Load())
	info.Requests = p.requests.Load()
	info.Received, info.Sent = p.traffic.received.Load(), p.traffic.sent.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	info.Links = len(p.links)
	for _, l := range p.links {
		info.InFlight += l.inFlight
	}
	if p.dial != nil && !p.dial.until.IsZero() {
		info.Fault = p.dial.err.Error()
	}
}
