package server

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// Config configures a [Server]. For durations and counts, zero means the
// default named and negative switches the mechanism off, where nothing else is
// said.
type Config struct {
	// PublicURL is the URL under which viewers reach the service, from which
	// client URLs are made: http or https, a host, and optionally a port and a
	// path. A path is expected to be stripped by the proxy in front. Required.
	PublicURL string

	// ViewerDomain gives each tunnel a host of its own under this domain,
	// <label>.<ViewerDomain>, with the scheme and port of PublicURL; client URLs
	// are made of it. It is a domain name and nothing else, with a wildcard in
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
	// the service whose forwarding headers are believed. Empty: none.
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

	// DisableH2C makes Serve refuse HTTP/2 without TLS.
	DisableH2C bool

	// DisablePathIsolation passes answers to requests by path on without the
	// changes that keep tunnels apart in a browser: see docs/configuration.md.
	// On a tunnel's own host it changes nothing.
	DisablePathIsolation bool

	// IgnoreTokenExpiry lets a session outlive its token.
	IgnoreTokenExpiry bool

	// Version is what /__version__ answers. The zero value means what the
	// Go toolchain recorded in the program.
	Version buildinfo.Info

	// Logger receives the log. The zero value is silent.
	Logger zerolog.Logger

	// Conn tunes HTTP/2 inside the tunnels.
	Conn h2conn.Config

	// now is the wall clock that judges tokens. Nil means time.Now.
	now func() time.Time

	// headerTimeout and idleTimeout are how long a request's header, and the
	// next request, may take to come. Zero means the constants.
	headerTimeout, idleTimeout time.Duration
}

const (
	defaultDrainTimeout = 60 * time.Second
	defaultStallTimeout = 60 * time.Second
	defaultMaxStreams   = 200

	// maxPrefixPath keeps cookie paths under the 1024 bytes at which browsers
	// stop to look at them (RFC 6265bis, section 5.7), with the longest id.
	maxPrefixPath = 700
)

// settings are a Config in the form that the server works with.
type settings struct {
	Config
	publicURL *url.URL // without a trailing slash
	trusted   []netip.Prefix
}

// check returns cfg with its defaults filled in, or an error that joins one
// line per fault. It changes nothing that cfg points to.
func check(cfg Config) (settings, error) {
	var errs []error
	s := settings{Config: cfg}
	u, err := parsePublicURL(cfg.PublicURL)
	errs = append(errs, err)
	s.publicURL = u
	s.ViewerDomain, err = parseViewerDomain(cfg.ViewerDomain, u)
	errs = append(errs, err)
	if cfg.DisablePathMode && cfg.ViewerDomain == "" {
		errs = append(errs, errNoHosts)
	}

	errs = append(errs, checkSecrets(cfg.Secrets))
	s.trusted, err = parseTrusted(cfg.TrustedProxies)
	errs = append(errs, err)

	if t := cfg.TLSConfig; t != nil && len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
		errs = append(errs, errors.New("TLSConfig has no certificate"))
	}

	s.DrainTimeout = durationOr(cfg.DrainTimeout, defaultDrainTimeout)
	s.StallTimeout = durationOr(cfg.StallTimeout, defaultStallTimeout)
	s.ResponseHeaderTimeout = max(cfg.ResponseHeaderTimeout, 0)
	if s.MaxStreams == 0 {
		s.MaxStreams = defaultMaxStreams
	} else if s.MaxStreams < 0 {
		errs = append(errs, fmt.Errorf("MaxStreams is %d: it must be positive", cfg.MaxStreams))
	}
	s.setConnectionLimits()
	s.headerTimeout = cmp.Or(s.headerTimeout, readHeaderTimeout)
	s.idleTimeout = cmp.Or(s.idleTimeout, idleTimeout)
	if s.Version == (buildinfo.Info{}) {
		s.Version = buildinfo.Get()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, errors.Join(errs...)
}

func checkSecrets(secrets [][]byte) error {
	var errs []error
	switch n := len(secrets); {
	case n == 0:
		errs = append(errs, errors.New("no Secrets: one or two are required"))
	case n > 2:
		errs = append(errs, fmt.Errorf("too many Secrets, %d: one or two are possible", n))
	}
	for i, secret := range secrets {
		if len(secret) == 0 {
			errs = append(errs, fmt.Errorf("entry Secrets[%d] is empty", i))
		}
	}
	return errors.Join(errs...)
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

// parsePublicURL returns the public URL without a trailing slash.
func parsePublicURL(s string) (*url.URL, error) {
	fault := func(rule string) (*url.URL, error) {
		return nil, fmt.Errorf("PublicURL %q: %s", redact.URL(s), rule)
	}
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, errors.New("PublicURL is required")
	case err != nil:
		return fault("it is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fault("its scheme must be http or https")
	case u.Hostname() == "":
		return fault("it has no host")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fault("it must be http(s)://host[:port][/path] and nothing else")
	case !isHost(u.Hostname()):
		return fault("its host must be an IP address or a name of A-Z a-z 0-9 . _ -, with other characters in their xn-- form")
	case strings.HasSuffix(u.Host, ":"):
		return fault("its port must be 1 to 65535")
	}
	u.Path, u.RawPath = strings.TrimRight(u.EscapedPath(), "/"), ""
	if strings.ContainsAny(u.Path, ";") || strings.Contains(u.Path, "//") {
		return fault("its path must not contain \";\" or \"//\"")
	}
	if len(u.Path) > maxPrefixPath {
		return fault(fmt.Sprintf("its path must not be longer than %d bytes", maxPrefixPath))
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fault("its port must be 1 to 65535")
		}
	}
	return u, nil
}

// isHost reports whether s is an IP address or looks like the name of a host.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		// Some names that are in use have underscores.
		if !isLabel(strings.ReplaceAll(lowerASCII(part), "_", "x")) {
			return false
		}
	}
	return true
}

// durationOr applies the rule for durations in Config: zero becomes def, and
// negative, which is off, zero.
func durationOr(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}
