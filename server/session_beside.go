package server

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A tunnel client may open further websockets beside its active session, since one
// connection that loses packets is slow for all requests on it. Each is a session of its
// own that has joined the active one: requests go to the one that carries the fewest,
// and what ends the service of the active one ends that of those beside it. One that ends
// by itself only takes itself away. Limits are those of the tunnel, not of each: the
// slots of the active session are for all. docs/adr/0025-several-websockets.md has the
// reasons.

// maxConnections is how many websockets one tunnel client may have for a tunnel at a
// time: the active session and those beside it.
const maxConnections = 8

var (
	errNotJoined = errors.New("there is no session here that this registration may join")
	errAllJoined = errors.New("the tunnel has " + strconv.Itoa(maxConnections) + " websockets, and may have no more")
)

// joinsOf returns the origin of the session that a registration with header h joins, and
// nil if it joins none. What breaks the rule is the zero Origin, which can be joined by
// nobody.
func joinsOf(h http.Header) *cluster.Origin {
	vv := h[wire.HeaderJoins]
	if len(vv) == 0 {
		return nil
	}
	n, err := strconv.ParseUint(vv[0], 10, 53)
	own := originOf(h)
	if len(vv) > 1 || err != nil || own.Instance == "" {
		return new(cluster.Origin)
	}
	return &cluster.Origin{Instance: own.Instance, Attempt: n}
}

// mayJoin returns why a session of l cannot join that of o, or nil.
func (g *registry) mayJoin(l label, o cluster.Origin) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[l]
	if tun == nil {
		return errNotJoined
	}
	return tun.mayJoinLocked(o)
}

func (tun *tunnel) mayJoinLocked(o cluster.Origin) error {
	switch {
	case o.Instance == "" || tun.active == nil || tun.active.origin != o:
		return errNotJoined
	case 1+len(tun.beside) >= maxConnections:
		return errAllJoined
	}
	return nil
}

// join settles a by taking s into service beside the active session; s runs from now
// on. It returns that session, and how many websockets the tunnel has now. On error s
// has not come into service, and still belongs to the caller.
func (g *registry) join(a *announcement, s *session, now time.Time) (active *session, n int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settleLocked(a)
	tun := a.tunnel
	defer g.tidyLocked(tun)
	if g.draining.Load() {
		return nil, 0, errDraining
	}
	if err := tun.mayJoinLocked(*a.joins); err != nil {
		return nil, 0, err
	}
	if g.evictions.check(s.grant, now) != nil {
		return nil, 0, errEvicted
	}
	active = tun.active
	s.slots, s.traffic.all = active.slots, &active.traffic
	if _, ok := s.enter(stateActive, 0, ""); !ok {
		return nil, 0, errRetired
	}
	tun.beside = append(slices.Clip(tun.beside), s)
	g.running.Add(1)
	go s.run()
	return active, 1 + len(tun.beside), nil
}

// leaveBesideLocked takes s, which serves no more, from those beside the active session.
func (tun *tunnel) leaveBesideLocked(s *session) {
	tun.beside = slices.DeleteFunc(slices.Clone(tun.beside), func(o *session) bool { return o == s })
}

// endBesideLocked ends the service of the sessions beside the active one, whose own has
// ended with code. They finish what they have, unless an operator has evicted it.
func (tun *tunnel) endBesideLocked(code wire.CloseCode) {
	next := stateDraining
	switch code {
	case wire.CloseEvicted:
		next = stateClosing
	case wire.CloseReplaced:
	default:
		code = wire.CloseDraining // for what has ended the active session concerns that alone
	}
	for _, s := range tun.beside {
		tun.moveLocked(s, next, code, "")
	}
}

// leastBusyLocked returns the session that serves and carries the fewest requests: the
// active one, if others carry as few.
func (tun *tunnel) leastBusyLocked() *session {
	best := tun.active
	if len(tun.beside) == 0 {
		return best
	}
	least := best.carries()
	for _, s := range tun.beside {
		if n := s.carries(); n < least {
			best, least = s, n
		}
	}
	return best
}

// carries returns how many requests the session has in flight.
func (s *session) carries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inFlight
}

// info describes the tunnel of which tun is a copy with an active session.
func (tun *tunnel) info() TunnelInfo {
	info, _ := tun.active.info() // whose traffic has that of those beside it
	info.Connections = 1 + len(tun.beside)
	for _, s := range tun.beside {
		info.InFlight += s.carries()
	}
	tun.describe(&info)
	return info
}

// adoptBeside brings a session into service that joins another.
func (s *Server) adoptBeside(a *announcement, sess *session, log zerolog.Logger) error {
	g := sess.grant // before the client can refresh it
	active, n, err := s.registry.join(a, sess, s.cfg.now())
	if err != nil {
		return err
	}
	if log, ok := s.audit.holder(log, sess.id, logevent.Joined); ok {
		log.Info().Str(logevent.Field, logevent.Joined).EmbedObject(g).Str("joins", active.remote).Int("connections", n).
			Msg("further websocket of the tunnel")
	}
	return nil
}
