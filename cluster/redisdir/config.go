package redisdir

import (
	"cmp"
	"crypto/tls"
	"strconv"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

// Config says where the store is, and how to reach it. Only URL is required.
type Config struct {
	// URL names the store. Ports are 6379, and 26379 for Sentinel, if they are left
	// out; databases are 0.
	//
	//	redis://[user[:password]@]host[:port][/db]
	//	unix://[[user]:password@]/path/of/socket[?db=number]
	//	redis+sentinel://[user[:password]@]host[:port][,host[:port]…]/master[/db]
	//	redis+cluster://[user[:password]@]host[:port][,host[:port]…]
	//
	// With rediss instead of redis, all connections use TLS. The hosts of
	// redis+sentinel are sentinels, and user and password are for the servers that
	// they watch. "redis://:password@host" gives a password alone.
	URL string

	// User and Password are for the servers, if they are not in the URL. A password
	// without a user is that of the user "default".
	User, Password string

	// SentinelUser and SentinelPassword are for the sentinels, if those ask for them.
	SentinelUser, SentinelPassword string

	// TLS is for rediss URLs. Nil means TLS 1.2 or later, and certificates that the
	// system trusts. A server's certificate has to name the host that was dialled, or
	// ServerName if that is set.
	TLS *tls.Config

	// KeyPrefix begins every key and channel, so that several clusters can share a
	// store. Empty means "wst:".
	KeyPrefix string

	// DialTimeout is how long a connection attempt may take. Zero means 1 s.
	DialTimeout time.Duration

	// Observe, if not nil, is called after each exchange with the store: each try to
	// connect, each pipeline of up to 100 commands, and each Watch that has ended. op is
	// one of connect, put, delete, get, beat, leave, nodes, heartbeat, watch and
	// ping. It must not block, and is called from several goroutines.
	Observe func(op string, took time.Duration, err error)
}

// A ConfigError says which field of a [Config] breaks a rule. [New] and
// [Config.Validate] return one for each fault, joined ([errors.Join]). It is the
// same type as in the packages server, tunnelclient and target.
type ConfigError = configerror.ConfigError

const (
	defaultPrefix      = "wst:"
	defaultDialTimeout = time.Second

	maxPrefix = 64
)

// settings are a Config in the form that the directory works with.
type settings struct {
	Config
	location
	heartbeat time.Duration
}

// Validate returns the error that [New] would return for cfg: nil, or a
// [*ConfigError] for each fault, joined. It connects to nothing: see
// [Directory.Ping].
func (cfg Config) Validate() error {
	_, err := check(cfg)
	return err
}

// Servers returns host and port of the servers that the URL names: of sentinels, if
// they know the others. A URL of a Unix socket, or with faults, has none.
func (cfg Config) Servers() []string {
	l := parseURL(cfg.URL, configerror.New("redisdir"))
	if l.kind == socket {
		return nil
	}
	return l.addrs
}

// check returns cfg with its defaults filled in.
func check(cfg Config) (settings, error) {
	faults := configerror.New("redisdir")
	s := settings{Config: cfg, location: parseURL(cfg.URL, faults), heartbeat: heartbeat}
	s.checkUser(faults)
	switch {
	case s.secure && cfg.TLS == nil:
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	case s.kind != "" && !s.secure && cfg.TLS != nil:
		faults.Add("TLS", "", "needs a URL with rediss instead of redis: with this one nothing would be encrypted")
	}
	s.KeyPrefix = cmp.Or(cfg.KeyPrefix, defaultPrefix)
	switch i := strings.IndexFunc(s.KeyPrefix, func(r rune) bool { return !prefixRune(r) }); {
	case i >= 0:
		faults.Add("KeyPrefix", cfg.KeyPrefix, "it may have letters, digits and the characters : . _ - only")
	case len(s.KeyPrefix) > maxPrefix:
		faults.Add("KeyPrefix", cfg.KeyPrefix, "it may have "+strconv.Itoa(maxPrefix)+" characters at most")
	}
	s.DialTimeout = cmp.Or(cfg.DialTimeout, defaultDialTimeout)
	if cfg.DialTimeout < 0 {
		faults.Add("DialTimeout", cfg.DialTimeout.String(), "it must be positive, or 0 for the default")
	}
	return s, faults.Err()
}

// checkUser takes user and password from the URL, where they are there.
func (s *settings) checkUser(faults *configerror.Faults) {
	if s.user != "" {
		if s.User != "" {
			faults.Add("User", "", "is in the URL too: give it once")
		}
		s.User = s.user
	}
	if s.password != "" {
		if s.Password != "" {
			faults.Add("Password", "", "is in the URL too: give it once")
		}
		s.Password = s.password
	}
	if s.User != "" && s.Password == "" {
		faults.Add("Password", "", "is required with a user")
	}
	if s.SentinelUser != "" && s.SentinelPassword == "" {
		faults.Add("SentinelPassword", "", "is required with a user")
	}
	if s.kind != "" && s.kind != sentinel && s.SentinelPassword != "" {
		faults.Add("SentinelPassword", "", "needs a URL with redis+sentinel or rediss+sentinel")
	}
}

func prefixRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(":._-", r)
}
