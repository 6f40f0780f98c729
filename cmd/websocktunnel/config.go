package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/url"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/tracing"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/server"
)

// minSecret is the length in bytes below which a secret is called short: that
// of the hash that signs tokens (RFC 7518, section 3.2).
const minSecret = 32

// config holds the checked settings.
type config struct {
	server server.Config // without PublicURL and Logger

	urlPrefix string // URL_PREFIX; "" means that the URL is made of host
	host      string // HOSTNAME
	addr      string // LISTEN_ADDR
	port      int    // PORT

	certificate *certificate // nil without TLS

	production bool
	logFormat  cliapp.LogFormat
	logLevel   zerolog.Level
	syslogAddr string

	admin   adminConfig
	access  accessConfig
	cluster clusterConfig

	tracing *tracing.Config // nil: off

	// values are what the variables are set to, secrets too: to be compared, never
	// shown.
	values map[string]string

	// warnings are about settings that work but are probably not meant.
	warnings []string
}

// readConfig reads all variables. The error has one line per fault.
func readConfig(in input) (config, error) {
	s := newSettings(in.lookup)
	var c config
	c.warnings = in.warnings
	for _, fault := range in.faults {
		s.faults.Add("%s", fault)
	}
	if in.broken { // what it sets would count as missing
		return c, s.faults.Err()
	}
	c.readEnv(s)
	c.readLog(s)
	c.readDebug(s)
	c.readSecrets(s)
	c.readTLS(s)
	urlVariable := c.readAddress(s)
	c.warnAboutCertificate()

	c.server.Audience = s.text("AUDIENCE")
	c.server.DrainTimeout = s.duration("DRAIN_TIMEOUT")
	c.server.DrainDelay = s.duration("DRAIN_DELAY")
	c.server.StartupWait = s.duration("STARTUP_WAIT")
	c.server.PingInterval = s.duration("PING_INTERVAL")
	c.server.PingTimeout = s.duration("PING_TIMEOUT")
	c.server.StallTimeout = s.duration("STALL_TIMEOUT")
	c.server.IdleTimeout = s.duration("IDLE_TIMEOUT")
	c.server.ResponseHeaderTimeout = s.duration("RESPONSE_HEADER_TIMEOUT")
	c.server.MaxStreams = s.integer("MAX_STREAMS", 0, 1, math.MaxInt32)
	c.server.MaxConnections = s.countOrOff("MAX_CONNECTIONS")
	c.server.MaxConnectionsPerAddress = s.countOrOff("MAX_CONNECTIONS_PER_ADDRESS")
	c.readMemory(s)
	c.server.DisableH2C = !s.on("H2C", true)
	c.server.DisablePathIsolation = !s.on("PATH_ISOLATION", true)
	c.server.IgnoreTokenExpiry = s.choice("TOKEN_EXPIRY", "enforce", "ignore") == "ignore"

	c.readAdmin(s)
	c.readCluster(s, in.starting)
	c.readAccess(s)
	c.readTracing(s)
	c.admin.settings, c.values = effective(s)
	c.showDefaults(c.clustered())
	c.checkServer(s, urlVariable)

	c.syslogAddr = s.text("SYSLOG_ADDR")
	if c.syslogAddr != "" {
		if err := checkHostPort(c.syslogAddr); err != nil {
			s.fault("SYSLOG_ADDR", "%q: %v", c.syslogAddr, err)
		} else if !c.production {
			c.warn("SYSLOG_ADDR has no effect: the log goes to syslog only with ENV=production")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.odd)) {
		c.warn("%s %s", name, s.odd[name])
	}
	c.warnings = append(c.warnings, in.unknown...)
	err := s.faults.Err()
	if err != nil { // which these may be the reason for
		for _, sentence := range in.unknown {
			s.faults.Add("%s", sentence)
		}
		err = s.faults.Err()
	}
	return c, err
}

// otherEnvs are values of ENV that are known not to be meant as production.
var otherEnvs = []string{"", "development", "dev", "devel", "local", "test", "testing", "ci", "qa", "staging", "stage", "demo", "sandbox", "preview"}

// readEnv reads what kind of environment this is.
func (c *config) readEnv(s *settings) {
	env := s.text("ENV")
	c.production = env == "production"
	if !c.production && !slices.Contains(otherEnvs, strings.ToLower(env)) {
		log := "the log is not JSON, and "
		if s.isSet("LOG_FORMAT") {
			log = ""
		}
		c.warn("ENV is %q, not \"production\": %sshort secrets are allowed", env, log)
	}
}

func (c *config) warn(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

// readDebug looks for a setting of Go's own that would print every header of
// every request, secrets among them.
func (c *config) readDebug(s *settings) {
	setting := cliapp.HTTP2Debug(os.Getenv("GODEBUG"))
	switch {
	case setting == "":
	case c.production:
		s.faults.Add("GODEBUG has %s, which prints the headers of all requests, including tokens and cookies: remove it, or do not set ENV=production", setting)
	default:
		c.warn("GODEBUG has %s: the headers of all requests are printed, including tokens and cookies", setting)
	}
}

// readMemory reads how much memory the process may need.
func (c *config) readMemory(s *settings) {
	text := s.text("MEMORY_LIMIT")
	limit, err := budget.Parse(text)
	if err != nil {
		s.fault("MEMORY_LIMIT", "%v", err)
	}
	c.server.MemoryLimit = limit
	if limit == 0 {
		c.server.MemoryLimit = -1
	}
}

// limitRuntime makes the garbage collector keep the memory limit, unless GOMEMLIMIT
// says otherwise.
func (c *config) limitRuntime() {
	if os.Getenv("GOMEMLIMIT") == "" && c.server.MemoryLimit > 0 {
		debug.SetMemoryLimit(c.server.MemoryLimit)
	}
}

// readSecrets reads what tokens are signed with.
func (c *config) readSecrets(s *settings) {
	short := s.on("ALLOW_SHORT_SECRETS", false)
	given := false
	for _, name := range secretNames {
		given = given || s.isSet(name)
		secret := s.secret(name)
		if secret == "" {
			continue
		}
		c.server.Secrets = append(c.server.Secrets, []byte(secret))
		if strings.TrimSpace(secret) != secret {
			c.warn("%s has white space at its beginning or end, which is part of the secret; signers of tokens must use it too", name)
		}
		switch {
		case len(secret) >= minSecret:
		case c.production && !short:
			s.fault(name, "is shorter than %d bytes: use a longer secret, or set ALLOW_SHORT_SECRETS=1 until you can", minSecret)
		default:
			c.warn("%s is shorter than %d bytes, so tokens can be forged by anyone who guesses it: use a longer secret", name, minSecret)
		}
	}
	if n := c.server.Secrets; len(n) == 2 && bytes.Equal(n[0], n[1]) {
		c.warn("%s and %s are the same: remove one of them; a rotation needs two different secrets", secretNames[0], secretNames[1])
	}
	if !given {
		s.fault(secretNames[0], "is required, or %s, or one of them with %s after its name", secretNames[1], fileSuffix)
	}
}

// readTLS reads certificate and key.
func (c *config) readTLS(s *settings) {
	hasCert, hasKey := s.isSet("TLS_CERTIFICATE"), s.isSet("TLS_KEY")
	switch {
	case !hasCert && !hasKey:
		return
	case !hasKey:
		s.fault("TLS_KEY", "is required because TLS_CERTIFICATE is set")
	case !hasCert:
		s.fault("TLS_CERTIFICATE", "is required because TLS_KEY is set")
	}
	cert, key := s.pem("TLS_CERTIFICATE"), s.pem("TLS_KEY")
	if cert == nil || key == nil {
		return
	}
	pair, err := newCertificate(cert, key, s.fileOf("TLS_CERTIFICATE"), s.fileOf("TLS_KEY"))
	if err != nil {
		s.fault("TLS_CERTIFICATE", "and TLS_KEY do not match: %v", err)
		return
	}
	if at, ok := pair.expired(time.Now()); ok {
		c.warn("TLS_CERTIFICATE expired at %s", at.Format(time.RFC3339))
	}
	c.certificate = pair
	c.server.TLSConfig = pair.config()
}

// readAddress reads where to listen and what viewers are told, after readTLS. It
// returns the variable that the public URL comes from.
func (c *config) readAddress(s *settings) (urlVariable string) {
	// A TLS that is only half configured was meant to be on.
	wantTLS := s.isSet("TLS_CERTIFICATE") || s.isSet("TLS_KEY")
	c.port = s.integer("PORT", defaultPort(wantTLS), 0, 65535)
	c.addr = strings.Trim(s.text("LISTEN_ADDR"), "[]")
	if c.addr != "" && !isHost(c.addr) {
		s.fault("LISTEN_ADDR", "%q: it must be an IP address or a host name, without a port; set the port with PORT", c.addr)
	}
	c.server.ViewerDomain = s.text("VIEWER_DOMAIN")
	c.server.DisablePathMode = !s.on("PATH_MODE", true)
	c.server.TrustedProxies = strings.FieldsFunc(s.text("TRUSTED_PROXIES"), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })

	if c.server.DisablePathMode && c.server.ViewerDomain == "" {
		s.fault("PATH_MODE", "is off, but VIEWER_DOMAIN is not set: viewers would reach no tunnel at all")
	}

	c.urlPrefix, c.host = s.text("URL_PREFIX"), s.text("HOSTNAME")
	urlVariable = "URL_PREFIX"
	switch {
	case c.urlPrefix != "":
	case c.host == "":
		s.fault("URL_PREFIX", "is required, such as https://tunnel.example.com, or HOSTNAME")
	default:
		urlVariable = "HOSTNAME"
		if !isHost(c.host) {
			s.fault("HOSTNAME", "%q: it must be only a host name or IP address; for a URL, use URL_PREFIX", redact.URL(c.host))
		}
	}

	switch isHTTPS := strings.HasPrefix(strings.ToLower(c.urlPrefix), "https:"); {
	case wantTLS && c.certificate == nil: // a fault, which is said already
	case isHTTPS && !wantTLS && len(c.server.TrustedProxies) == 0:
		c.warn("URL_PREFIX is https, but neither TLS_CERTIFICATE nor TRUSTED_PROXIES is set: targets see X-Forwarded-Proto: http; " +
			"set TRUSTED_PROXIES to the addresses of the proxy in front")
	case c.urlPrefix != "" && !isHTTPS && wantTLS:
		c.warn("URL_PREFIX is not https although TLS_CERTIFICATE is set: the URLs that clients get may not work")
	default:
		c.warnAboutPort()
	}
	return urlVariable
}

// checkServer has the server package check what it has rules for. urlVariable is
// the variable that the public URL comes from.
func (c *config) checkServer(s *settings, urlVariable string) {
	full := c.server
	full.PublicURL = c.publicURL(max(c.port, 1)) // which port 0 becomes is not known yet
	s.configFaults(full.Validate(), map[string]string{
		"PublicURL":       urlVariable,
		"ViewerDomain":    "VIEWER_DOMAIN",
		"DisablePathMode": "PATH_MODE",
		"TrustedProxies":  "TRUSTED_PROXIES",
		"Secrets":         "", // readSecrets has noted why there is none

		"Cluster.Directory": "", // there is none before the service starts
		"Cluster.Node":      "CLUSTER_NODE",
		"Cluster.Addr":      "CLUSTER_ADVERTISE",
		"Cluster.Secrets":   "", // readClusterSecrets has noted what is wrong
	})
}

// warnAboutPort warns if URL_PREFIX leads to another port than PORT, with no
// proxy there that would pass requests on.
func (c *config) warnAboutPort() {
	u, err := url.Parse(c.urlPrefix)
	if err != nil || c.urlPrefix == "" || c.port == 0 || len(c.server.TrustedProxies) > 0 || os.Getenv("LISTEN_FDS") != "" {
		return // a fault, or a port that is chosen elsewhere
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(defaultPort(strings.EqualFold(u.Scheme, "https")))
	}
	if port != strconv.Itoa(c.port) {
		c.warn("URL_PREFIX has port %s, but PORT is %d: nobody reaches the service unless something in front passes %s on to it; if that is a proxy, set TRUSTED_PROXIES to its addresses", port, c.port, port)
	}
}

// warnAboutCertificate warns if the certificate does not cover the service's
// host or the tunnels' hosts.
func (c *config) warnAboutCertificate() {
	if c.certificate == nil {
		return
	}
	if u, err := url.Parse(c.publicURL(c.port)); err == nil && u.Hostname() != "" && !c.certificate.covers(u.Hostname()) {
		c.warn("TLS_CERTIFICATE does not cover %s, so tunnel clients and viewers refuse it: use a certificate with that name", u.Hostname())
	}
	if c.server.ViewerDomain == "" || c.certificate.covers("any."+c.server.ViewerDomain) {
		return
	}
	c.warn("TLS_CERTIFICATE does not cover *.%s, so viewers cannot reach tunnels by their hosts: use a certificate with that name and the service's", strings.ToLower(c.server.ViewerDomain))
}

// publicURL returns the public URL, if the service listens on port.
func (c *config) publicURL(port int) string {
	if c.urlPrefix != "" {
		return c.urlPrefix
	}
	scheme := "http"
	if c.server.TLSConfig != nil {
		scheme = "https"
	}
	if port == defaultPort(c.server.TLSConfig != nil) {
		host := c.host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(c.host, strconv.Itoa(port))
}

func defaultPort(withTLS bool) int {
	if withTLS {
		return 443
	}
	return 80
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9.])?$`)

// isHost reports whether s looks like a host name or is an IP address.
func isHost(s string) bool { return hostName.MatchString(s) || net.ParseIP(s) != nil }

// checkHostPort returns the rule that s breaks as host:port, or nil.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || host == "" || e != nil || n == 0 {
		return errors.New("it must be host:port, such as logs.example.com:514")
	}
	return nil
}
