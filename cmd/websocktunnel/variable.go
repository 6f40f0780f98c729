package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"
)

// variable is one setting of the service: an environment variable, a flag and a
// key of the configuration file.
type variable struct {
	name     string
	category string
	usage    string
	def      string // the default, for the help
	secret   bool   // it has a …_FILE twin
	list     bool   // in a configuration file it may be a list
	live     bool   // a reload puts a new value in force
	url      bool   // it may have a password in it, which is not shown
}

// Categories of variables.
const (
	catAddress = "Address (URL_PREFIX or HOSTNAME is required)"
	catSecret  = "Secrets and tokens (one secret is required)"
	catTLS     = "TLS (set both or neither)"
	catLimit   = "Limits (a time is 90s, 5m, a number of seconds, or off)"
	catTunnel  = "Behaviour"
	catLog     = "Log"
	catAdmin   = "Admin listener: metrics, health, API"
	catCluster = "Several nodes behind one name"
	catFile    = "Configuration file"
)

// variables are all settings of the service.
var variables = []variable{
	{name: configVariable, category: catFile, usage: "`File` with settings: YAML, a line such as PORT: 8080 for each. Variables and flags override it.", def: "none"},

	{name: "URL_PREFIX", category: catAddress, usage: "Public `URL` of the service: http(s)://host[:port][/path]. Client URLs begin with it. Overrides HOSTNAME."},
	{name: "HOSTNAME", category: catAddress, usage: "Public host `name`. The URL is then http(s)://HOSTNAME[:PORT]. Docker sets this variable automatically."},
	{name: "PORT", category: catAddress, usage: "`Port` to listen on; 0 chooses a free one.", def: "443 with TLS, otherwise 80"},
	{name: "VIEWER_DOMAIN", category: catAddress, usage: "`Domain`, such as tunnels.example.com, in which each tunnel gets its own host: https://<label>.tunnels.example.com. See docs/configuration.md.", def: "tunnels are below URL_PREFIX"},
	{name: "LISTEN_ADDR", category: catAddress, usage: "`Address` to bind. A socket from systemd overrides it.", def: "all addresses"},
	{name: "TRUSTED_PROXIES", category: catAddress, usage: "`Addresses` and CIDR prefixes of the proxies in front, separated by commas; unix stands for those on a Unix socket. The service believes their forwarding headers.", def: "none", list: true, live: true},

	{name: "TASKCLUSTER_PROXY_SECRET_A", category: catSecret, usage: "`Secret` that signs tokens, at least 32 bytes. The flag is visible in ps.", secret: true, live: true},
	{name: "TASKCLUSTER_PROXY_SECRET_B", category: catSecret, usage: "Second `secret`, for changing secrets without an interruption.", secret: true, live: true},
	{name: "AUDIENCE", category: catSecret, usage: "`Value` that tokens must have in their aud claim.", def: "aud is ignored", live: true},
	{name: "ALLOW_SHORT_SECRETS", category: catSecret, usage: "`1` allows secrets shorter than 32 bytes with ENV=production.", def: "0", live: true},
	{name: "TOKEN_EXPIRY", category: catSecret, usage: "`enforce` or ignore. With ignore, a tunnel may outlive its token.", def: "enforce", live: true},

	{name: "TLS_CERTIFICATE", category: catTLS, usage: "`Certificate`, followed by any intermediate certificates: PEM, or base64 of PEM.", secret: true, live: true},
	{name: "TLS_KEY", category: catTLS, usage: "Private `key` of the certificate: PEM, or base64 of PEM. The flag is visible in ps.", secret: true, live: true},

	{name: "DRAIN_TIMEOUT", category: catLimit, usage: "`Time` for requests in flight to finish when the service stops.", def: "60s", live: true},
	{name: "DRAIN_DELAY", category: catLimit, usage: "`Time` between the first failing heartbeat and the closing of tunnels when the service stops, so that a load balancer can react.", def: "off", live: true},
	{name: "STARTUP_WAIT", category: catLimit, usage: "`Time` after the start during which viewers wait for tunnels that have not connected yet.", def: "off"},
	{name: "STALL_TIMEOUT", category: catLimit, usage: "`Time` after which a request ends if it has bytes to move and none of them moves.", def: "60s", live: true},
	{name: "IDLE_TIMEOUT", category: catLimit, usage: "`Time` for which a viewer's connection stays open without a request, or off.", def: "620s"},
	{name: "RESPONSE_HEADER_TIMEOUT", category: catLimit, usage: "`Time` for a target to begin its answer.", def: "off", live: true},
	{name: "PING_INTERVAL", category: catLimit, usage: "`Time` of silence after which the service pings a tunnel. With CLUSTER_REDIS, the default is 5s.", def: "15s", live: true},
	{name: "PING_TIMEOUT", category: catLimit, usage: "`Time` for a tunnel to answer a ping before the service closes it. With CLUSTER_REDIS, the default is 5s.", def: "10s", live: true},
	{name: "MAX_STREAMS", category: catLimit, usage: "Highest `number` of concurrent requests in one tunnel.", def: "200", live: true},
	{name: "MAX_CONNECTIONS", category: catLimit, usage: "Highest `number` of open connections, without tunnels, or off.", def: "90% of the open file limit, at most 50000", live: true},
	{name: "MAX_CONNECTIONS_PER_ADDRESS", category: catLimit, usage: "Highest `number` of open connections from one address, or off. Trusted proxies and loopback addresses have no limit.", def: "2000, at most a quarter of MAX_CONNECTIONS", live: true},
	{name: "MEMORY_LIMIT", category: catLimit, usage: "`Size` such as 512MiB, percentage of the memory of the machine or container, or off: how much memory the service may need.", def: "80%, or GOMEMLIMIT"},

	{name: "H2C", category: catTunnel, usage: "`on` or off: HTTP/2 without TLS.", def: "on"},
	{name: "PATH_MODE", category: catTunnel, usage: "`on` or off: with VIEWER_DOMAIN, also serve tunnels at /<id>/.", def: "on"},
	{name: "PATH_ISOLATION", category: catTunnel, usage: "`on` or off: keep tunnels apart in a browser. See docs/configuration.md.", def: "on"},

	{name: "ENV", category: catLog, usage: "`production` makes the log JSON lines, and refuses short secrets.", def: "none"},
	{name: "LOG_LEVEL", category: catLog, usage: "`Level` from which on lines are logged: trace, debug, info, warn or error.", def: "info", live: true},
	{name: "LOG_FORMAT", category: catLog, usage: "`Form` of the log: console (lines for people), json, mozlog (Mozilla's JSON log format 2.0) or syslog (lines for people with the severity, for systemd).", def: "json with ENV=production, otherwise console"},
	{name: "SYSLOG_ADDR", category: catLog, usage: "`host:port` of a syslog server that also gets the log, over UDP. Needs ENV=production."},
	{name: "ACCESS_LOG", category: catLog, usage: "`Form` of the line about each request: off, json, combined, or a template such as '{time} {id} {status}'.", def: "off"},
	{name: "ACCESS_LOG_FILE", category: catLog, usage: "`File` for these lines.", def: "standard output, with the log"},
	{name: "ACCESS_LOG_PATHS", category: catLog, usage: "`on` or off: show paths behind the id. They may hold secrets.", def: "off"},
	{name: "ACCESS_LOG_SAMPLE", category: catLog, usage: "`Part` of the requests to log, such as 0.1 or 10%. Failures and statuses from 500 on are logged in any case.", def: "1"},

	{name: "ADMIN_ADDR", category: catAdmin, usage: "`host:port` of the admin listener, such as 127.0.0.1:9090. See docs/operating.md.", def: "none"},
	{name: "ADMIN_TOKEN", category: catAdmin, usage: "`Token` that callers of the admin listener must know, at least 16 bytes. Required unless ADMIN_ADDR is a loopback address. The flag is visible in ps.", secret: true, live: true},
	{name: "ADMIN_HOSTS", category: catAdmin, usage: "`Names` under which the admin listener may be reached, besides localhost and IP addresses, separated by commas.", def: "the host of ADMIN_ADDR", list: true, live: true},
	{name: "METRICS_PER_TUNNEL", category: catAdmin, usage: "`on` or off: also metrics of single tunnels, with their ids: those 1000 that have carried most.", def: "off"},

	{name: "CLUSTER_REDIS", category: catCluster, usage: "`URL` of the Redis or Valkey in which nodes tell each other their tunnels: redis://, rediss://, redis+sentinel:// or redis+cluster://. See docs/configuration.md.", def: "none: the service is alone", url: true},
	{name: "CLUSTER_REDIS_PASSWORD", category: catCluster, usage: "`Password` for it, if it is not in the URL. The flag is visible in ps.", secret: true},
	{name: "CLUSTER_SENTINEL_USER", category: catCluster, usage: "`User` for the sentinels."},
	{name: "CLUSTER_SENTINEL_PASSWORD", category: catCluster, usage: "`Password` for the sentinels, if they ask for one. The flag is visible in ps.", secret: true},
	{name: "CLUSTER_REDIS_CA", category: catCluster, usage: "`Certificates` of the CAs of a rediss URL: PEM, or base64 of PEM.", def: "those of the system", secret: true},
	{name: "CLUSTER_REDIS_CERTIFICATE", category: catCluster, usage: "`Certificate` to show to a store that asks for one: PEM, or base64 of PEM.", secret: true},
	{name: "CLUSTER_REDIS_KEY", category: catCluster, usage: "Private `key` of that certificate. The flag is visible in ps.", secret: true},
	{name: "CLUSTER_KEY_PREFIX", category: catCluster, usage: "`Prefix` of all keys and channels, if several clusters share a store.", def: "wst:"},
	{name: "CLUSTER_SECRET_A", category: catCluster, usage: "`Secret` that all nodes know and nobody else, at least 16 bytes. Required with CLUSTER_REDIS. The flag is visible in ps.", secret: true},
	{name: "CLUSTER_SECRET_B", category: catCluster, usage: "Second `secret`, for changing secrets without an interruption.", secret: true},
	{name: "CLUSTER_NODE", category: catCluster, usage: "`Name` of this node, which no other one has.", def: "the host name"},
	{name: "CLUSTER_LISTEN", category: catCluster, usage: "`host:port` to listen on for the other nodes, such as :8444. Viewers do not belong there.", def: defaultClusterListen},
	{name: "CLUSTER_ADVERTISE", category: catCluster, usage: "`host:port` where other nodes reach this one.", def: "the address that leads to CLUSTER_REDIS, with the port of CLUSTER_LISTEN"},
}

// hides reports whether others must not see value, which v is set to.
func (v variable) hides(value string) bool {
	switch v.name {
	case "TLS_CERTIFICATE", "CLUSTER_REDIS_CERTIFICATE", "CLUSTER_REDIS_CA":
		return false
	}
	return v.secret || v.url && strings.Contains(value, "@")
}

// fileSuffix makes the name of a secret's twin, which names a file.
const fileSuffix = "_FILE"

// flagName returns the name of the flag for a variable: URL_PREFIX is also
// --url-prefix. CONFIG_FILE alone is shorter: --config.
func flagName(variable string) string {
	if variable == configVariable {
		return "config"
	}
	return strings.ToLower(strings.ReplaceAll(variable, "_", "-"))
}

// variableFlags returns the flags for variables.
func variableFlags() []cli.Flag {
	var flags []cli.Flag
	for _, v := range variables {
		flags = append(flags, newFlag(v.name, v))
		if v.secret {
			flags = append(flags, newFlag(v.name+fileSuffix, variable{
				category: v.category,
				usage:    fmt.Sprintf("`File` with the value of %s.", v.name),
			}))
		}
	}
	return flags
}

func newFlag(name string, v variable) *cli.StringFlag {
	return &cli.StringFlag{
		Name:        flagName(name),
		Category:    v.category,
		Usage:       v.usage,
		DefaultText: v.def,
		HideDefault: v.def == "",
		TakesFile:   strings.HasSuffix(name, fileSuffix), // CONFIG_FILE too
		Sources:     cli.NewValueSourceChain(environment(name)),
		Local:       true,
	}
}

// environment shows in the help which variable a flag stands for. Looking it
// up is done by lookupIn instead, for three reasons: an empty variable counts
// as none, a fault must be able to tell a flag from a variable, and a file
// that cannot be read is a fault, not a source without a value.
type environment string

var (
	_ cli.ValueSource    = environment("")
	_ cli.EnvValueSource = environment("")
)

func (e environment) String() string       { return "environment variable " + string(e) }
func (e environment) GoString() string     { return "environment(" + string(e) + ")" }
func (environment) Lookup() (string, bool) { return "", false }
func (environment) IsFromEnv() bool        { return true }
func (e environment) Key() string          { return string(e) }

// originKind says by what a value was set. A greater one overrides a lesser one.
type originKind int

const (
	byDefault originKind = iota
	byFile               // the configuration file
	byEnvironment
	byFlag
)

// origin is where the value of a variable comes from.
type origin struct {
	kind originKind
	at   string // file:line, if it is a configuration file
}

// String returns it for the effective configuration.
func (o origin) String() string {
	switch o.kind {
	case byFile:
		return "file " + o.at
	case byEnvironment:
		return "environment"
	case byFlag:
		return "flag"
	}
	return "default"
}

// A lookup returns what a variable is set to, "" for nothing, and by what.
type lookup func(name string) (value string, from origin)

// environmentLookup looks in the environment only.
func environmentLookup(name string) (string, origin) {
	return os.Getenv(name), origin{kind: byEnvironment}
}

// lookupIn returns a lookup in cmd's flags, the environment, and file, in this
// order. There may be no file: nil.
func lookupIn(cmd *cli.Command, file *configFile) lookup {
	return func(name string) (string, origin) {
		if f := flagName(name); cmd.IsSet(f) {
			return cmd.String(f), origin{kind: byFlag}
		}
		value := os.Getenv(name)
		if file == nil || strings.TrimSpace(value) != "" {
			return value, origin{kind: byEnvironment}
		}
		if v, ok := file.values[name]; ok {
			return v.text, origin{kind: byFile, at: fmt.Sprintf("%s:%d", file.path, v.line)}
		}
		return value, origin{kind: byEnvironment}
	}
}

// input is what a configuration is read from.
type input struct {
	lookup   lookup
	starting bool     // the service is to start, and is not running yet
	faults   []string // of the configuration file
	broken   bool     // it cannot be read
	warnings []string // about it
	unknown  []string // about variables that may be misspelled
}

// readInput reads the configuration file, if cmd or the environment names one.
func readInput(cmd *cli.Command) input {
	in := input{lookup: lookupIn(cmd, nil), unknown: misspelled(os.Environ())}
	s := newSettings(in.lookup)
	path := s.text(configVariable)
	if path == "" {
		return in
	}
	file := readConfigFile(path, s.label(configVariable))
	in.lookup, in.faults, in.broken, in.warnings = lookupIn(cmd, file), file.faults, file.broken, file.warnings()
	return in
}
