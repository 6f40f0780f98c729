package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// readyTimeout is how long a tunnel client may take from the 101 to its
	// first answer to an HTTP/2 ping.
	readyTimeout = 5 * time.Second

	// maxHandshakes is how many registrations may be under way at a time.
	maxHandshakes = 512
)

// isRegistration reports whether r is a tunnel client's: docs/protocol.md.
func isRegistration(r *http.Request, rt route) bool {
	return r.Method == http.MethodGet && rt.kind == routeNone && rt.id == "" && !rt.ownHost && len(r.Header[wire.HeaderID]) > 0
}

// register answers a registration.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	kind := s.tryRegister(w, r)
	s.cfg.Metrics.registration(kind, time.Since(start))
}

// tryRegister answers a registration: it writes the refusal, or upgrades and
// hands the connection to a new session. The checks are in the order of
// docs/protocol.md: none before the token's, or of the token, looks at whether the
// id is connected. It returns the outcome, one of registrationKinds.
func (s *Server) tryRegister(w http.ResponseWriter, r *http.Request) (kind string) {
	leaveRest(w, r)
	addr := s.live.Load().forwarding.clientAddr(r)
	remote := r.RemoteAddr
	if peer, ok := parseAddr(remote); ok && addr.IsValid() && addr != peer {
		remote = addr.String() // what a trusted proxy says
	}
	log := s.log.With().Str("remote", remote).Logger()

	id, err := s.claimedID(r)
	if err != nil {
		return s.refuseStranger(w, log, addr, grant{}, badID(err))
	}
	log = tunnelLog(s.log, remote, id)

	g, err := s.authorize(r, id)
	if err != nil {
		return s.refuseStranger(w, log, addr, g, badToken(err))
	}

	if f := checkUpgrade(w, r); f != nil {
		h := w.Header()
		switch {
		case f.status == http.StatusBadRequest:
			h.Set("Sec-WebSocket-Version", "13")
		case r.ProtoMajor == 1 && !h2conn.TranslatedConnect(w):
			h.Set("Upgrade", "websocket")
			h.Set("Connection", "Upgrade")
		}
		return s.refuseHolder(w, log, g, f)
	}

	if viewer := requestConn(r); viewer != nil {
		// From here on it is the tunnel's work, whichever address it comes from.
		s.turns.join(&viewer.turn, labelOf(id))
		viewer.turn.begin()
	}
	joins := joinsOf(r.Header)
	p, f := s.admit(id, joins)
	if f != nil {
		return s.refuseHolder(w, log, g, f)
	}
	return s.handshake(w, r, g, joins, remote, log, p)
}

// claimedID returns the client id that a registration, which has at least one,
// is for.
func (s *Server) claimedID(r *http.Request) (string, error) {
	ids := r.Header[wire.HeaderID]
	if len(ids) > 1 {
		return "", fmt.Errorf("there are %d %s headers: one is possible", len(ids), strings.ToLower(wire.HeaderID))
	}
	id := ids[0]
	if err := wire.CheckID(id); err != nil {
		return id, err
	}
	if !s.cfg.DisablePathMode && wire.SpeaksForHost(id) {
		return id, fmt.Errorf("client id %q is reserved: as a path, /%s speaks for the whole host", id, id)
	}
	return id, nil
}

// handshake answers a registration that has passed all checks with a 101, and
// hands its connection to a new session of g.id, which joins that of joins unless this
// is nil, as soon as the client has answered a ping. It returns the outcome.
func (s *Server) handshake(w http.ResponseWriter, r *http.Request, g grant, joins *cluster.Origin, remote string, log zerolog.Logger, p *place) (kind string) {
	defer p.release()
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()

	// Announced before the 101: a viewer that comes as soon as the client knows
	// its URL has to find something to wait for.
	a := s.registry.announce(labelOf(g.id), joins, cancel)
	if joins == nil {
		s.cluster.tellComing(labelOf(g.id))
	}
	conn, err := h2conn.Accept(w, r, h2conn.AcceptOptions{
		Subprotocol:  wire.Subprotocol,
		Header:       s.handshakeHeader(g.id),
		WriteTimeout: s.live.Load().WriteTimeout,
	})
	if err != nil {
		s.registry.withdraw(a)
		p.memory.Release()
		s.registrationFailed(log, g, codeUpgradeFailed, err)
		return logevent.Failed
	}
	viewer := requestConn(r)
	if viewer != nil {
		viewer.becomeTunnel()
	}
	sess := newSession(s, conn, g, p.memory, remote, cancel)
	if viewer != nil {
		sess.turn = &viewer.turn
	}
	sess.passesBarePath = passesBarePath(r.Header)
	sess.origin, sess.joined = originOf(r.Header), joins != nil
	adopt := s.adopt
	if sess.joined {
		adopt = s.adoptBeside
	}
	if err = sess.start(ctx); err != nil {
		err = fmt.Errorf("no HTTP/2 on the websocket: %w", err)
	} else if err = adopt(a, sess, log); err == nil {
		if viewer != nil {
			viewer.uncount()
		}
		return logevent.Registered
	}
	p.release() // not only after the close handshake, which a silent client draws out
	s.registry.abandon(a, conn)
	code, closeCode, fault := whyFailed(err)
	sess.abandon(closeCode, fault)
	s.registry.closed(sess.label, conn)
	s.registrationFailed(log, g, code, err)
	return logevent.Failed
}

// handshakeHeader returns what a tunnel client is told with the 101.
func (s *Server) handshakeHeader(id string) http.Header {
	h := http.Header{
		wire.HeaderClientURL:   {s.cfg.clientURL(id)},
		wire.HeaderConnections: {strconv.Itoa(maxConnections)},
	}
	if s.cluster != nil {
		live := s.live.Load()
		if ping := wire.FormatPing(live.PingInterval, live.PingTimeout); ping != "" {
			h[wire.HeaderPing] = []string{ping}
		}
	}
	return h
}

// whyFailed returns what to say of a registration that came to nothing after the
// 101: its code, the close code, and what its client has done wrong, if that is why.
func whyFailed(err error) (code errorCode, closeCode wire.CloseCode, fault string) {
	switch {
	case errors.Is(err, errDraining):
		return codeShuttingDown, wire.CloseDraining, ""
	case errors.Is(err, errOvertaken):
		return codeOvertaken, wire.CloseReplaced, ""
	case errors.Is(err, errEvicted):
		return codeEvicted, wire.CloseEvicted, ""
	case errors.Is(err, errNotJoined), errors.Is(err, errAllJoined):
		return codeNotJoined, wire.CloseDraining, ""
	case errors.Is(err, errFewStreams):
		return codeFewStreams, wire.CloseProtocol, errFewStreams.Error()
	}
	return codeNoHTTP2, wire.CloseProtocol, "no answer to the first HTTP/2 ping"
}

// authorize returns what r's bearer token entitles to. The texts of errors are for
// the log alone: see tokenFault.
func (s *Server) authorize(r *http.Request, id string) (grant, error) {
	vv := r.Header["Authorization"]
	if len(vv) != 1 {
		return grant{}, fmt.Errorf("there are %d Authorization headers: one is required", len(vv))
	}
	scheme, token, ok := strings.Cut(vv[0], " ")
	token = strings.Trim(token, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return grant{}, errors.New("the Authorization header is not a bearer token")
	}
	return s.admitToken(token, id)
}

// admitToken returns what a token entitles to now.
func (s *Server) admitToken(token, id string) (grant, error) {
	g, err := s.live.Load().verifier.verify(token, id)
	if err != nil {
		return grant{}, err
	}
	return g, s.registry.checkEvicted(g, s.cfg.now())
}

// checkUpgrade returns nil if r is a websocket handshake of the tunnel protocol, and
// otherwise the refusal.
func checkUpgrade(w http.ResponseWriter, r *http.Request) *refusal {
	h := r.Header
	if r.ProtoMajor != 1 || r.ProtoMinor < 1 || h2conn.TranslatedConnect(w) ||
		!httpguts.HeaderValuesContainsToken(h["Connection"], "upgrade") ||
		!httpguts.HeaderValuesContainsToken(h["Upgrade"], "websocket") {
		return &refusal{code: codeNoUpgrade, status: http.StatusUpgradeRequired, told: "a registration is a websocket upgrade over HTTP/1.1"}
	}
	if h.Get("Sec-Websocket-Version") != "13" {
		return badHandshake(codeWebsocketVersion, "the websocket version must be 13")
	}
	keys := h["Sec-Websocket-Key"]
	if len(keys) != 1 {
		return badHandshake(codeWebsocketKey, "there must be one Sec-WebSocket-Key header")
	}
	if b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0])); err != nil || len(b) != 16 {
		return badHandshake(codeWebsocketKey, "the Sec-WebSocket-Key must be 16 bytes in base64")
	}
	for _, v := range h["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(v, ",") {
			if strings.TrimSpace(p) == wire.Subprotocol {
				return nil
			}
		}
	}
	return badHandshake(codeSubprotocol, "the websocket subprotocol "+wire.Subprotocol+
		" must be offered: clients of the predecessor must be replaced by this project's")
}

// place is a registration's among those that are under way, with the memory of its
// session.
type place struct {
	memory  *budget.Holding
	release func() // gives the place back; may be called more than once
}

// admit gives a registration a place. If there is none, the refusal says why, and
// when to come again: soon if another process takes over, and spread out if there
// are too many. A registration that replaces a session needs no room among the
// tunnels, and neither does one that joins one, that of joins.
func (s *Server) admit(id string, joins *cluster.Origin) (*place, *refusal) {
	spread := time.Second + rand.N(5*time.Second)
	l := labelOf(id)
	crowded := noPlace(codeTooManyHandshakes, spread, "too many tunnels connect at this moment")
	switch {
	case s.isDraining():
		return nil, noPlace(codeShuttingDown, time.Second, "the service is shutting down")
	case joins == nil && !s.registry.hasRoom(l, s.live.Load().MaxTunnels):
		return nil, noPlace(codeTunnelLimit, spread, "the service has no room for more tunnels")
	case !s.handshakes.allow(l):
		return nil, crowded
	}
	if joins != nil {
		if err := s.registry.mayJoin(l, *joins); err != nil {
			return nil, notJoined(err)
		}
	}
	m := s.memory.holdTunnel(nil, l)
	if m.Admit(sessionCost) != nil {
		m.Release()
		return nil, noPlace(codeNoMemoryForTunnel, spread, "the service is short of memory")
	}
	select {
	case s.handshaking <- struct{}{}:
		return &place{m, sync.OnceFunc(func() { <-s.handshaking })}, nil
	default:
		m.Release()
		return nil, crowded
	}
}

// refuseStranger refuses a registration from addr without a valid token; or, after
// too many of those, with 429. A caller with a valid token never gets here, even if
// others at addr do. g is the grant of a token that was valid once, if there is one.
// It returns the outcome.
func (s *Server) refuseStranger(w http.ResponseWriter, log zerolog.Logger, addr addrKey, g grant, f *refusal) (kind string) {
	if wait, ok := s.failures.allow(addr); !ok {
		f = tooManyFailures(wait)
	}
	if s.audit.stranger(addr, f.kind()) {
		f.log(log, g)
	}
	return s.refuse(w, f)
}

// refuseHolder refuses a registration with a valid token, of which g is the grant. It
// returns the outcome.
func (s *Server) refuseHolder(w http.ResponseWriter, log zerolog.Logger, g grant, f *refusal) (kind string) {
	if log, ok := s.audit.holder(log, g.id, f.kind()); ok {
		f.log(log, g)
	}
	return s.refuse(w, f)
}

func (s *Server) refuse(w http.ResponseWriter, f *refusal) (kind string) {
	s.cfg.Metrics.failed(f.code)
	f.write(w)
	return f.kind()
}

// registrationFailed counts and logs a registration that was admitted and came to
// nothing.
func (s *Server) registrationFailed(log zerolog.Logger, g grant, code errorCode, err error) {
	s.cfg.Metrics.failed(code)
	if log, ok := s.audit.holder(log, g.id, logevent.Failed); ok {
		log.Warn().Str(logevent.Field, logevent.Failed).Str("error_code", string(code)).Str("reason", fmt.Sprintf("%.*s", maxReason, err)).EmbedObject(g).Msg("registration failed")
	}
}

var errOvertaken = errors.New("a later registration of this id was faster")

// adopt brings a session into service. The session it replaces finishes what it
// has.
func (s *Server) adopt(a *announcement, sess *session, log zerolog.Logger) error {
	g := sess.grant // before the client can refresh it
	as, err := s.registry.publish(a, sess, s.cfg.now())
	if err != nil {
		return err
	}
	s.cluster.moved(a.tunnel.label)
	sess.resize() // in case Reconfigure has not seen it
	s.cfg.Metrics.arrival(as)
	if log, ok := s.audit.holder(log, sess.id, logevent.Registered); ok {
		e := log.Info().Str(logevent.Field, logevent.Registered).EmbedObject(g).
			Str("url", s.cfg.clientURL(sess.id)).Bool("extended_connect", sess.tr.ExtendedConnect())
		if as.after != "" {
			e = e.Str("after", as.after).Int("reconnects", as.reconnects)
		}
		if as.replaced != nil {
			e = e.Str("replaces", as.replaced.remote).Uint64("replacements", as.replacements)
		}
		e.Msg("tunnel connected")
		if n := wire.NormalID(sess.id); n != sess.id && !s.cfg.DisablePathMode {
			log.Warn().Str(logevent.Field, logevent.OddID).Str("normal", n).Msg("clients that normalise URLs ask for another id than this one, by path")
		}
	}
	return nil
}

func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int((d+time.Second-1)/time.Second)))
}
