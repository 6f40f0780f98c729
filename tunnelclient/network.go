package tunnelclient

import (
	"net"
	"net/netip"
	"time"
)

// networkCheck is how often a session looks whether this machine still reaches
// the service from the session's address. Two looks have to agree, so that a
// new session is on its way within 4 s of the change: the unanswered ping would
// need 25 s.
const networkCheck = 2 * time.Second

// network is what a networkWatch wants to know of this machine. The answers
// may change at any time.
type network interface {
	// source returns the address from which a connection to remote would come,
	// and false if there is no way to remote.
	source(remote netip.AddrPort) (netip.Addr, bool)
	// addresses returns the addresses that this machine has.
	addresses() []netip.Addr
}

// kernel is the network that the operating system knows.
type kernel struct{}

var _ network = kernel{}

func (kernel) source(remote netip.AddrPort) (netip.Addr, bool) {
	// This sends nothing: it only makes the kernel choose a route.
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return netip.Addr{}, false
	}
	defer conn.Close()
	a := addrPort(conn.LocalAddr()).Addr()
	return a, a.IsValid()
}

func (kernel) addresses() []netip.Addr {
	nets, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var aa []netip.Addr
	for _, n := range nets {
		if ipn, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(ipn.IP); ok {
				aa = append(aa, a.Unmap())
			}
		}
	}
	return aa
}

// addrPort returns a's address, or the zero AddrPort if a is none of TCP or
// UDP.
func addrPort(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// networkWatch notices that a session's way to the service is no longer the
// one that a new session would take.
type networkWatch struct {
	net    network
	local  netip.Addr
	remote netip.AddrPort

	// follows says that the kernel has chosen local. If it has not, because
	// the dialler binds its connections, a new session would come from local
	// too, although the kernel may prefer another address.
	follows bool

	seen  netip.Addr // what the last check found instead of local
	moved bool       // the last check found another address, or none
}

// watchNetwork returns nil if there is nothing to watch: the connection does
// not leave this machine, or is not made of TCP.
func watchNetwork(n network, local, remote net.Addr) *networkWatch {
	w := &networkWatch{net: n, local: addrPort(local).Addr().WithZone(""), remote: addrPort(remote)}
	if !w.local.IsValid() || !w.remote.IsValid() || w.local.IsLoopback() {
		return nil
	}
	src, ok := n.source(w.remote)
	w.follows = ok && src.WithZone("") == w.local
	return w
}

// check looks at the network and reports whether it is another, and was the
// same other one when check was called before.
func (w *networkWatch) check() bool {
	src, moved := w.look()
	again := moved && w.moved && src == w.seen
	w.seen, w.moved = src, moved
	return again
}

// look returns the address from which a new session would come, if that is
// known, and whether it is worthwhile to open one.
func (w *networkWatch) look() (netip.Addr, bool) {
	src, ok := w.net.source(w.remote)
	src = src.WithZone("")
	if ok && src == w.local {
		return src, false
	}
	own, other := false, false
	for _, a := range w.net.addresses() {
		own = own || a == w.local
		other = other || a != w.local && a.IsGlobalUnicast()
	}
	switch {
	case !own:
		// Without any address there is nothing to connect from. With one
		// there may be a way to the service by another of its addresses.
		return src, ok || other
	case !ok || !w.follows:
		return src, false
	}
	return src, !samePrefix(src, w.local)
}

// samePrefix reports whether a and b are addresses of one IPv6 network: the
// kernel takes a new one from time to time, for privacy, and the old one goes
// on working.
func samePrefix(a, b netip.Addr) bool {
	if !a.Is6() || !b.Is6() {
		return false
	}
	const bits = 64
	p, err := a.Prefix(bits)
	return err == nil && p.Contains(b)
}
