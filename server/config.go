package server

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

// Config configures a [Server]. For durations and counts, zero means the default
// named and negative switches the mechanism off, unless the field says otherwise.
type Config struct {
	// PublicURL is the URL under which viewers reach the service, from which
	// client URLs are made: http or https, a host, and optionally a port and a
	// path. A path is expected to be stripped by the proxy in front. Required.
	PublicURL string

	// ViewerDomain gives each tunnel a host of its own under this domain,
	// <label>.<ViewerDomain>, with the scheme and port of PublicURL; client URLs
	// are made of it. It is just a domain name, with a wildcard in
	// DNS and in the certificate, and the host of PublicURL is not in it. See
	// docs/configuration.md. Empty: tunnels are reached by path alone.
	ViewerDomain string

	// DisablePathMode makes the service answer 404 on /<id>/, so that tunnels
	// are reached by their own hosts alone. It needs a ViewerDomain.
	DisablePathMode bool

	// Secrets are the keys that tokens may be signed with, one or, during a
	// rotation, two. None may be empty. Required.
	Secrets [][]byte

	// Audience is the claim aud that tokens must have. Empty: aud is ignored.
	Audience string

	// TrustedProxies are addresses and CIDR prefixes of proxies in front of
	// the service whose forwarding headers are believed. The entry "unix" stands
	// for every peer on a Unix socket. Empty: none.
	TrustedProxies []string

	// TLSConfig, if not nil, makes Serve speak TLS. It needs certificates;
	// protocols and the lowest version (1.2) are set by Serve on a copy.
	TLSConfig *tls.Config

	// DrainTimeout is how long requests in flight may go on when the service
	// shuts down or a session is replaced. Zero means 60 s.
	DrainTimeout time.Duration

	// DrainDelay is how long Shutdown waits, after the heartbeat has begun to
	// fail, before it asks tunnel clients to go: as long as a load balancer
	// needs to notice. Zero or negative: not at all.
	DrainDelay time.Duration

	// StartupWait is how long after the start a viewer whose tunnel has not
	// connected yet waits for it, instead of getting 404: the tunnels of the
	// process before are on their way. Zero or negative: not at all.
	StartupWait time.Duration

	// StallTimeout ends a request whose bytes wait to move and do not move,
	// in either direction, for this long. Quiet streams are never cut. Zero
	// means 60 s.
	StallTimeout time.Duration

	// IdleTimeout is how long Serve keeps a viewer's connection without a
	// request: longer than a load balancer in front does, or that loses a race now
	// and then and answers 502. Where connections are scarce, idle ones make room
	// before that. Zero means 620 s, negative for ever.
	IdleTimeout time.Duration

	// ResponseHeaderTimeout is how long a target may take to begin its answer
	// after the last byte of the request. Zero or negative means no limit.
	ResponseHeaderTimeout time.Duration

	// MaxStreams is how many requests one tunnel may carry at a time. Zero
	// means 200, and negative is a fault; a tunnel client that admits fewer gets
	// fewer.
	MaxStreams int

	// MaxTunnels is how many tunnels the service has at a time. Zero or
	// negative means no limit.
	MaxTunnels int

	// MaxConnections is how many connections Serve keeps open at a time, tunnels
	// not counted. For one more, the connection is closed that has been longest
	// without a request; where each has one, new viewers get 503. Zero means nine
	// tenths of the files that the process may open, and at most 50,000.
	MaxConnections int

	// MaxConnectionsPerAddress is how many of them one address may have; of IPv6,
	// a /64. More are closed at once. TrustedProxies and loopback addresses, where
	// a proxy may be that nobody has named, have no such limit. Zero means 2000,
	// and at most a quarter of MaxConnections.
	MaxConnectionsPerAddress int

	// MemoryLimit is how many bytes the process is to need at most. Half of it is
	// what viewers and tunnel clients may make it hold; the garbage collector takes
	// the rest. Near that, new work is refused with 503, and those are cut that hold
	// most and move least. docs/security.md has the shares of one address and one
	// tunnel. Zero means 80 % of the memory of the machine or control group;
	// negative means no limit.
	MemoryLimit int64

	// DisableH2C makes Serve refuse HTTP/2 without TLS.
	DisableH2C bool

	// DisablePathIsolation passes answers to requests by path on without the
	// changes that keep tunnels apart in a browser: see docs/configuration.md.
	// On a tunnel's own host it changes nothing.
	DisablePathIsolation bool

	// IgnoreTokenExpiry lets a session outlive its token.
	IgnoreTokenExpiry bool

	// Version is what /__version__ answers, as JSON. Empty fields mean
	// what the linker or the Go toolchain recorded in the program.
	Version Version

	// Logger receives the log. The zero value is silent. Its writer must not
	// block: lines are written on the way of requests.
	Logger zerolog.Logger

	// RequestDone, if not nil, is told what has become of each request, when it is
	// over: those of viewers, those that the service answers itself, and those of
	// Go code. Registrations are not among them. It must not block, and the
	// RequestInfo is its own. Targets then get the request's name too
	// (x-websocktunnel-request-id, and X-Request-Id where the viewer sent none).
	RequestDone func(*RequestInfo)

	// TraceRequest, if not nil, is called with each of these requests when its
	// headers h are there, which it must not keep or change. i has what is known
	// then: ID, Start and what comes of the viewer. It must not block. What it
	// returns, if not nil, follows the request: for distributed tracing. As with
	// RequestDone, targets get the request's name.
	TraceRequest func(i *RequestInfo, h http.Header) *RequestTrace

	// Metrics, if not nil, count what the service does. They belong to one Server.
	Metrics *Metrics

	// PingInterval is how long a tunnel may be silent before the service pings
	// it, and PingTimeout how long the answer may take before the tunnel is given
	// up. Zero means 15 s and 10 s, and [ClusterPing] with a Cluster. A node tells its
	// tunnel clients, which do the same unless they are configured otherwise.
	PingInterval, PingTimeout time.Duration

	// WriteTimeout is how long a write to a tunnel may make no progress at all
	// before the tunnel is given up. Zero means 10 s.
	WriteTimeout time.Duration

	// StreamWindow and ConnWindow are how many bytes of one answer, and of all
	// answers of one tunnel together, may wait for their viewers, at most: see
	// [h2conn.Config]. Zero means 8 MiB and 256 MiB; negative values count as zero.
	StreamWindow, ConnWindow int32

	// NoExtendedConnect sends upgrades to tunnel clients in the fallback form
	// even where extended CONNECT (RFC 8441) is possible: for tests, and for
	// tunnel clients whose extended CONNECT is broken.
	NoExtendedConnect bool

	// Cluster, if not nil, makes the Server one of several nodes.
	Cluster *ClusterConfig

	// answered and finished, if not nil, are called with the answer of a tunnel to
	// a viewer, and when an exchange is over. They are for tests.
	answered func(*http.Response)
	finished func(*exchange)

	// now is the wall clock that judges tokens. Nil means time.Now.
	now func() time.Time

	// headerTimeout is how long a request's header may take to come. Zero means
	// the constant.
	headerTimeout time.Duration
}

const (
	defaultDrainTimeout = 60 * time.Second
	defaultStallTimeout = 60 * time.Second
	defaultIdleTimeout  = 620 * time.Second
	defaultMaxStreams   = 200

	// maxPrefixPath keeps cookie paths under the 1024 bytes at which browsers
	// stop to look at them (RFC 6265bis, section 5.7), with the longest id.
	maxPrefixPath = 700
)

// A Version names one build of the program that the service is part of.
type Version struct {
	// Version is the release, such as v1.2.3.
	Version string `json:"version"`

	// Commit is the hash of the commit that was built.
	Commit string `json:"commit"`

	// Build tells apart builds of one commit: a time, or the URL of a CI job.
	Build string `json:"build"`
}

// A ConfigError says which field of a [Config] or [Claims], or which argument,
// breaks a rule. [New], [Config.Validate] and [MintToken] return one for each
// fault, joined ([errors.Join]). It has the fields
//
//	Field string // Go name of the field or argument: "PublicURL", "Secrets[1]", "Claims.TTL"
//	Value string // what it is set to; empty if not set, or if it may be a secret
//	Rule  string // the rule and what to do: "its scheme must be http or https"
//
// It is the same type as in the packages tunnelclient and target.
type ConfigError = configerror.ConfigError

// settings are a Config in the form that the server works with.
type settings struct {
	Config
	publicURL *url.URL // without a trailing slash
	trusted   trustedProxies

	clusterKeys *cluster.Keys // nil without a Cluster
}

// Validate returns the error that [New] would return for cfg: nil, or a
// [*ConfigError] for each fault, joined.
func (cfg Config) Validate() error {
	_, err := check(cfg)
	return err
}

// check returns cfg with its defaults filled in, or an error that joins a
// ConfigError for each fault. It changes nothing that cfg points to.
func check(cfg Config) (settings, error) {
	faults := configerror.New("server")
	s := settings{Config: cfg}
	s.publicURL = parsePublicURL(cfg.PublicURL, faults)
	s.ViewerDomain = parseViewerDomain(cfg.ViewerDomain, s.publicURL, faults)
	if cfg.DisablePathMode && cfg.ViewerDomain == "" {
		faults.Add("DisablePathMode", "", "needs a ViewerDomain: without one viewers would reach no tunnel at all")
	}
	checkSecrets(cfg.Secrets, faults)
	s.trusted = parseTrusted(cfg.TrustedProxies, faults)
	s.clusterKeys = cfg.Cluster.check(faults)
	if cfg.Cluster != nil {
		s.PingInterval, s.PingTimeout = cmp.Or(s.PingInterval, ClusterPing), cmp.Or(s.PingTimeout, ClusterPing)
	}
	if t := cfg.TLSConfig; t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		faults.Add("TLSConfig", "", "has no certificate: set Certificates, GetCertificate or GetConfigForClient")
	}

	s.DrainTimeout = durationOr(cfg.DrainTimeout, defaultDrainTimeout)
	s.StallTimeout = durationOr(cfg.StallTimeout, defaultStallTimeout)
	s.ResponseHeaderTimeout = max(cfg.ResponseHeaderTimeout, 0)
	if s.MaxStreams == 0 {
		s.MaxStreams = defaultMaxStreams
	} else if s.MaxStreams < 0 {
		faults.Add("MaxStreams", strconv.Itoa(cfg.MaxStreams), "it must be positive, or 0 for the default")
	}
	s.setConnectionLimits()
	if s.MemoryLimit == 0 {
		s.MemoryLimit = budget.Default()
	}
	s.MemoryLimit = max(s.MemoryLimit, 0)
	s.headerTimeout = cmp.Or(s.headerTimeout, readHeaderTimeout)
	s.IdleTimeout = durationOr(cfg.IdleTimeout, defaultIdleTimeout)
	build := buildinfo.Get()
	s.Version = Version{
		Version: cmp.Or(cfg.Version.Version, build.Version),
		Commit:  cmp.Or(cfg.Version.Commit, build.Commit),
		Build:   cmp.Or(cfg.Version.Build, build.Build),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, faults.Err()
}

// checkSecrets notes the faults of secrets, and never their values.
func checkSecrets(secrets [][]byte, faults *configerror.Faults) {
	switch n := len(secrets); {
	case n == 0:
		faults.Add("Secrets", "", "is empty: one or two secrets are required")
	case n > 2:
		faults.Add("Secrets", "", fmt.Sprintf("has %d entries: at most two secrets are possible", n))
	}
	for i, secret := range secrets {
		if len(secret) == 0 {
			faults.Add(fmt.Sprintf("Secrets[%d]", i), "", "is empty: leave it out, or set a secret")
		}
	}
}

// tunnelConfig returns how HTTP/2 inside the tunnels is tuned.
func (s *settings) tunnelConfig() h2conn.TransportConfig {
	return h2conn.TransportConfig{
		Config: h2conn.Config{
			StreamWindow: s.StreamWindow,
			ConnWindow:   s.ConnWindow,
			PingInterval: s.PingInterval,
			PingTimeout:  s.PingTimeout,
		},
		NoExtendedConnect: s.NoExtendedConnect,
	}
}

// setConnectionLimits fills in the defaults. From then on zero means no limit.
func (s *settings) setConnectionLimits() {
	switch {
	case s.MaxConnections < 0:
		s.MaxConnections = 0
	case s.MaxConnections == 0:
		s.MaxConnections = mostConnections
		if n := openFiles(); n > 0 {
			s.MaxConnections = min(n/10*9, mostConnections)
		}
	}
	perAddress := mostConnectionsPerAddress
	if s.MaxConnections > 0 { // one address is not to push out all others
		perAddress = min(perAddress, max(s.MaxConnections/4, 64))
	}
	s.MaxConnectionsPerAddress = max(0, cmp.Or(s.MaxConnectionsPerAddress, perAddress))
}

// durationOr applies the rule for durations in Config: zero becomes def, and
// negative, which is off, zero.
func durationOr(d, def time.Duration) time.Duration { return max(cmp.Or(d, def), 0) }
