package server

import (
	"context"
	"iter"
	"log"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// Limits for addresses. Hits and valid tokens are never limited.
const (
	failuresPerSecond = 5
	failuresBurst     = 300
	missesPerSecond   = 20
	missesBurst       = 400
)

const (
	// restTimeout is how long the rest of a request may take that has been
	// answered already. If it comes in time, its connection can be used again.
	restTimeout = 250 * time.Millisecond

	// lastBytes is how long Shutdown gives viewers for the ends of answers.
	lastBytes = 5 * time.Second

	// leaveGap is how long after its goaway delay a session without requests
	// stays if its client does not say that it has connected elsewhere. That is
	// time enough for the client to be refused once.
	leaveGap = 5 * time.Second

	// breakOff is how long Close waits for requests to break off.
	breakOff = 250 * time.Millisecond

	// goawaySpacing is how far apart goaways are spread, within the drain
	// timeout: reconnections after a restart are to ramp up, not to storm.
	goawaySpacing = 2 * time.Millisecond
)

// Server is the service. Create it with [New].
type Server struct {
	// Static after construction.
	cfg        settings // but for liveFields, which are in live
	log        zerolog.Logger
	errorLog   *log.Logger // for net/http; it writes to errorLines
	errorLines *errorLogWriter
	loops      loopGuard
	isolation  isolation
	registry   *registry
	buffers    bufferPools

	cluster *node // nil if it is alone

	live          atomic.Pointer[live]
	reconfiguring sync.Mutex

	audit       *audit
	memory      *memory
	connections *connLimit
	turns       turnLimit
	failures    addrLimiter     // failed registrations
	misses      addrLimiter     // viewers' 404s
	handshakes  *handshakeLimit // registrations
	handshaking chan struct{}   // one element per registration under way
	lines       lineLimits      // of the log
	traffic     traffic         // of all tunnels

	expectUntil time.Time     // until when viewers wait for tunnels that have not connected yet
	closing     chan struct{} // closed by Close
	headWait    time.Duration // the constant, but for tests

	mu      sync.Mutex
	closed  bool
	servers map[*http.Server]struct{}
}

var _ http.Handler = (*Server)(nil)

// New returns a Server for cfg, or a [*ConfigError] for each fault in it, joined
// ([errors.Join]), which is one line each. It starts nothing.
func New(cfg Config) (*Server, error) {
	set, err := check(cfg)
	if err != nil {
		return nil, err
	}
	errorLines := newErrorLogWriter(set.Logger)
	s := &Server{
		cfg:         set,
		log:         set.Logger,
		errorLines:  errorLines,
		errorLog:    log.New(errorLines, "", 0),
		loops:       newLoopGuard(set.Cluster),
		isolation:   isolation{off: set.DisablePathIsolation, prefixPath: set.publicURL.Path},
		failures:    newAddrLimiter(failuresPerSecond, failuresBurst),
		misses:      newAddrLimiter(missesPerSecond, missesBurst),
		handshakes:  newHandshakeLimit(),
		turns:       turnLimit{processors: runtime.GOMAXPROCS(0)},
		handshaking: make(chan struct{}, maxHandshakes),
		servers:     make(map[*http.Server]struct{}),
		expectUntil: time.Now().Add(max(set.StartupWait, 0)),
		closing:     make(chan struct{}),
		headWait:    headWait,
	}
	s.live.Store(newLive(set))
	s.memory = newMemory(set.MemoryLimit, set.trusted)
	s.registry = newRegistry(s.memory)
	cost := int64(connCost)
	if set.TLSConfig != nil {
		cost += tlsCost
	}
	s.connections = newConnLimit(set.MaxConnections, set.MaxConnectionsPerAddress, s.memory.mayStandForMany, s.memory, cost)
	if !set.Metrics.attach(s) {
		faults := configerror.New("server")
		faults.Add("Metrics", "", "belong to another Server: make new ones with NewMetrics")
		return nil, faults.Err()
	}
	s.cluster = joinCluster(s, set.clusterKeys)
	s.audit = newAudit(set.Logger, &s.lines)
	return s, nil
}

// ServeHTTP serves a viewer or registers a tunnel client.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c := requestConn(r); c != nil {
		c.reading.Store(false)
		c.limitStall(s.live.Load().StallTimeout)
		if r.ProtoMajor == 1 && !c.turn.visits.Load() {
			c.turn.begin() // of many requests that one Read has brought, only the first has one
		}
	}
	rt := s.route(r)
	m, ok := s.admitRequest(r, rt)
	well := false // if it panics
	defer func() { m.done(well) }()
	if m.conn != nil && !m.conn.turn.addr.IsValid() && r.ProtoMajor == 1 && m.addr.IsValid() && !s.memory.trusted.Load().has(m.addr) {
		s.turns.visit(&m.conn.turn, m.addr)
	}
	if !ok {
		s.cfg.Metrics.decline(r.Method, failMemory)
		id := s.requestID(r)
		s.declined(s.record(w, r, rt, id), failMemory.status, 0, failMemory)
		m.refuse(w, r, rt, id)
		return
	}
	if r.ProtoMajor == 2 && rt.kind != routeTunnel {
		m.Wait()
		defer hurry(w)()
	}
	switch {
	case isRegistration(r, rt):
		s.register(w, r)
	case r.Method == http.MethodConnect && r.Header.Get(":protocol") == "":
		s.decline(w, r, rt, failConnect)
	case rt.kind == routeTunnel && s.crowded(r):
		w.Header().Set("Connection", "close")
		s.decline(w, r, rt, failCrowded)
	case rt.kind == routeTunnel:
		s.serveViewer(w, r, rt, m)
	case rt.kind == routeReserved && r.Method != http.MethodGet && r.Method != http.MethodHead:
		s.decline(w, r, rt, failReservedMethod)
	case rt.kind == routeReserved:
		info := s.record(w, r, rt, s.requestID(r))
		status := s.serveReserved(w, r, rt.id)
		s.declined(info, status, 0, nil)
	case rt.kind == routeNone:
		s.decline(w, r, rt, s.miss(r, s.notFound(rt)))
	default:
		s.decline(w, r, rt, malformedTarget(rt.err))
	}
	well = true
}

// decline answers with f a request that becomes no exchange.
func (s *Server) decline(w http.ResponseWriter, r *http.Request, rt route, f *failure) {
	f = f.answering(r, rt)
	id := s.requestID(r)
	info := s.record(w, r, rt, id)
	leaveRest(w, r)
	sent := f.write(w, r, id)
	s.cfg.Metrics.decline(r.Method, f)
	s.declined(info, f.status, sent, f)
}

// TunnelInfo describes a tunnel's active session.
type TunnelInfo struct {
	ID           string
	RemoteAddr   string    // of the tunnel client's connection
	ConnectedAt  time.Time // when this session registered
	TokenExpires time.Time
	InFlight     int // requests, on all its websockets

	// Connections is how many websockets serve the tunnel: its client may have opened
	// more than one.
	Connections int

	// Replacements is how often a registration has replaced a session that was
	// still active, since the tunnel came up: many are a sign of two tunnel
	// clients with one id. ReplacedAddr is the address of the last one that
	// was replaced, or empty.
	Replacements uint64
	ReplacedAddr string

	// Failed is how many requests have had no whole answer since the tunnel came
	// up, or came back within ten minutes, because of the service, the tunnel client or the target.
	Failed uint64

	// Reconnects is how often the tunnel has connected anew within the last ten
	// minutes. Many are a sign of a client that flaps.
	Reconnects int

	// LastEnd is when the session before this one stopped taking requests, and
	// LastEndReason the word for why it ended, as in the log. Zero and empty: there
	// was none since the tunnel came up.
	LastEnd       time.Time
	LastEndReason string

	// Gone says that the session was the tunnel's last, and has taken no requests
	// since LastEnd.
	Gone bool

	// ExtendedConnect tells the form of upgrades inside the tunnel.
	ExtendedConnect bool

	// RoundTrip is how long the tunnel client took to answer the last ping. Silent
	// tunnels are pinged, so it may be as old as the last byte that came.
	RoundTrip time.Duration

	// Received and Sent are the bytes of bodies and upgraded connections that the
	// session has carried, and those that have joined it, from viewers and to viewers.
	Received, Sent int64
}

// Tunnels returns the tunnels that take requests now, in no particular order.
func (s *Server) Tunnels() iter.Seq[TunnelInfo] {
	return func(yield func(TunnelInfo) bool) {
		for _, tun := range s.registry.active() {
			if !yield(tun.info()) {
				return
			}
		}
	}
}

// Gone returns the tunnels that take no requests now, but have done so within the
// last ten minutes, in no particular order. There are 10,000 at most, those that went
// last, and fewer if there is little memory.
func (s *Server) Gone() iter.Seq[TunnelInfo] { return slices.Values(s.registry.gone()) }

func (s *Server) isDraining() bool { return s.registry.draining.Load() }

// Shutdown ends the service without losing a request:
//
//  1. The heartbeat fails and registrations get 503. Answers ask viewers to
//     open new connections, elsewhere perhaps.
//  2. After the drain delay every session gets a goaway, with delays spread
//     over the drain time.
//  3. New requests are still served as long as their tunnel is here.
//  4. Requests in flight finish, up to the drain timeout.
//  5. Sessions close with code 4002, each when it carries nothing and its
//     client has connected elsewhere, or has had time to.
//  6. Listeners close, and Serve returns.
//
// If ctx ends first, Shutdown closes everything at once and returns ctx's error. A
// call of Close has the same effect.
func (s *Server) Shutdown(ctx context.Context) error {
	first := s.registry.drain()
	s.cluster.drain()
	sessions := s.registry.sessions()
	if delay := s.live.Load().DrainDelay; first && delay > 0 && len(sessions) > 0 {
		s.log.Info().Str(logevent.Field, logevent.DrainDelay).Stringer("delay", delay).Msg("the heartbeat fails from now on")
		select {
		case <-time.After(delay):
		case <-ctx.Done():
		case <-s.closing:
		}
		sessions = s.registry.sessions()
	}
	if first {
		s.log.Info().Str(logevent.Field, logevent.Draining).Int("tunnels", len(sessions)).Msg("shutting down")
		spread := min(time.Duration(len(sessions))*goawaySpacing, s.live.Load().DrainTimeout/2)
		for i, sess := range sessions {
			sess.leave(spread * time.Duration(i) / time.Duration(len(sessions)))
		}
	}
	done := make(chan struct{})
	go func() {
		s.registry.running.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.Close()
		<-done
		return ctx.Err()
	}

	// Viewers of this node may still use tunnels of others.
	hops, cancelHops := context.WithTimeout(ctx, s.live.Load().DrainTimeout)
	s.cluster.settle(hops)
	cancelHops()

	// No request can be served any more. Some viewers may still be reading the
	// end of an answer.
	finish, cancel := context.WithTimeout(ctx, lastBytes)
	defer cancel()
	for _, hs := range s.httpServers() {
		_ = hs.Shutdown(finish) // Close does the rest
	}
	s.connections.settle(finish)
	s.Close()
	return ctx.Err()
}

// Close ends the service at once: requests in flight fail, sessions close with
// code 4002.
func (s *Server) Close() error {
	s.mu.Lock()
	if !s.closed {
		close(s.closing)
	}
	s.closed = true
	s.mu.Unlock()
	s.registry.drain()
	for _, sess := range s.registry.sessions() {
		sess.cut(wire.CloseDraining, "")
	}
	s.registry.running.Wait()
	s.cluster.close()
	// Without tunnels the requests in flight break off by themselves, each so
	// that its viewer notices; closing their connections would not do that.
	ctx, cancel := context.WithTimeout(context.Background(), breakOff)
	defer cancel()
	for _, hs := range s.httpServers() {
		if hs.Shutdown(ctx) != nil {
			hs.Close()
		}
	}
	s.connections.stopLingering()
	s.memory.Close()
	s.audit.close()
	return nil
}

func (s *Server) httpServers() []*http.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.servers))
}
