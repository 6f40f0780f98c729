package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v3"
)

// variable is one setting of the service: an environment variable and a flag.
type variable struct {
	name     string
	category string
	usage    string
	def      string // what holds where it is not set; for the help
	secret   bool   // it has a …_FILE twin
}

// Categories of variables.
const (
	catAddress = "Address: URL_PREFIX or HOSTNAME is required"
	catSecret  = "Secrets and tokens: one secret is required"
	catTLS     = "TLS: both or neither; PEM, or base64 of PEM"
	catLimit   = "Limits: a time is such as 90s, a number of seconds, or off"
	catTunnel  = "Behaviour"
	catLog     = "Log"
)

// variables are all that the service can be told.
var variables = []variable{
	{name: "URL_PREFIX", category: catAddress, usage: "public `URL`, http(s)://host[:port][/path], that client URLs begin with; wins over HOSTNAME"},
	{name: "HOSTNAME", category: catAddress, usage: "public host `name`; the URL is then http(s)://HOSTNAME[:PORT]. Docker sets this variable by itself"},
	{name: "PORT", category: catAddress, usage: "`port` to listen on; 0 takes a free one", def: "443 with TLS, else 80"},
	{name: "VIEWER_DOMAIN", category: catAddress, usage: "`domain`, such as tunnels.example.com, that gives each tunnel a host: https://<label>.tunnels.example.com; see docs/configuration.md", def: "tunnels are below URL_PREFIX"},
	{name: "LISTEN_ADDR", category: catAddress, usage: "`address` to bind; a socket passed by systemd wins", def: "all"},
	{name: "TRUSTED_PROXIES", category: catAddress, usage: "`addresses` and CIDR prefixes, separated by commas, of proxies in front whose forwarding headers are believed", def: "none"},

	{name: "TASKCLUSTER_PROXY_SECRET_A", category: catSecret, usage: "`secret` that tokens are signed with, at least 32 bytes; a flag shows in ps", secret: true},
	{name: "TASKCLUSTER_PROXY_SECRET_B", category: catSecret, usage: "another `secret`, to change from one to the other without a break", secret: true},
	{name: "AUDIENCE", category: catSecret, usage: "`value` that the claim aud of tokens must have", def: "aud is ignored"},
	{name: "ALLOW_SHORT_SECRETS", category: catSecret, usage: "`1`: start with ENV=production though a secret is shorter than 32 bytes", def: "0"},
	{name: "TOKEN_EXPIRY", category: catSecret, usage: "`enforce`, or ignore: a tunnel may outlive its token", def: "enforce"},

	{name: "TLS_CERTIFICATE", category: catTLS, usage: "`certificate`, with intermediate ones behind it", secret: true},
	{name: "TLS_KEY", category: catTLS, usage: "its private `key`; a flag shows in ps", secret: true},

	{name: "DRAIN_TIMEOUT", category: catLimit, usage: "`time` that requests in flight may take when the service stops", def: "60s"},
	{name: "DRAIN_DELAY", category: catLimit, usage: "`time` between the failing of the heartbeat and the going of tunnels when the service stops: what a load balancer needs to notice", def: "off"},
	{name: "STARTUP_WAIT", category: catLimit, usage: "`time` after the start during which viewers wait for tunnels that have not connected yet", def: "off"},
	{name: "STALL_TIMEOUT", category: catLimit, usage: "`time` that bytes of a request may wait without any moving", def: "60s"},
	{name: "RESPONSE_HEADER_TIMEOUT", category: catLimit, usage: "`time` that a target may take to begin its answer", def: "off"},
	{name: "PING_INTERVAL", category: catLimit, usage: "`time` that a tunnel may be silent before it is asked for a sign of life", def: "15s"},
	{name: "PING_TIMEOUT", category: catLimit, usage: "`time` that this sign may take before the tunnel is given up", def: "10s"},
	{name: "MAX_STREAMS", category: catLimit, usage: "`number` of requests that one tunnel may carry at a time", def: "200"},
	{name: "MAX_CONNECTIONS", category: catLimit, usage: "`number` of connections that are open at a time, tunnels not counted, or off", def: "nine tenths of the open files admitted, 50000 at most"},
	{name: "MAX_CONNECTIONS_PER_ADDRESS", category: catLimit, usage: "`number` of them from one address, or off; trusted proxies and loopback have no limit", def: "2000, a quarter of MAX_CONNECTIONS at most"},

	{name: "H2C", category: catTunnel, usage: "`on` or off: HTTP/2 without TLS", def: "on"},
	{name: "PATH_MODE", category: catTunnel, usage: "`on` or off: with VIEWER_DOMAIN, whether tunnels are reached at /<id>/ too", def: "on"},
	{name: "PATH_ISOLATION", category: catTunnel, usage: "`on` or off: keep tunnels apart in a browser, see docs/configuration.md", def: "on"},

	{name: "ENV", category: catLog, usage: "`production`: the log is JSON lines", def: "lines for people"},
	{name: "SYSLOG_ADDR", category: catLog, usage: "`host:port` of a syslog server, to send the log to also, by UDP, with ENV=production"},
}

// later are variables of features that this version does not have. They are
// refused: who sets them relies on them.
var later = []string{"ADMIN_ADDR", "ADMIN_TOKEN", "ADMIN_TOKEN_FILE"}

// fileSuffix makes the name of a secret's twin, which names a file.
const fileSuffix = "_FILE"

// flagName returns the name of the flag for a variable: URL_PREFIX is also
// --url-prefix.
func flagName(variable string) string {
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
				usage:    fmt.Sprintf("`file` with the value of %s", v.name),
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
		TakesFile:   strings.HasSuffix(name, fileSuffix),
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

// A lookup returns what a variable is set to, "" for nothing, and whether a
// flag did that.
type lookup func(name string) (value string, byFlag bool)

// lookupIn returns a lookup in cmd's flags, which win, and the environment.
func lookupIn(cmd *cli.Command) lookup {
	return func(name string) (string, bool) {
		if f := flagName(name); cmd.IsSet(f) {
			return cmd.String(f), true
		}
		return os.Getenv(name), false
	}
}
