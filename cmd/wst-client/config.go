package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
	"github.com/websocktunnel/websocktunnel/cmd/internal/tracing"
	"github.com/websocktunnel/websocktunnel/target"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// tokenVariable is the environment variable that a token may come from.
const tokenVariable = "WST_TOKEN"

// config holds the checked settings of the command line.
type config struct {
	tunnel    tunnelclient.Config // without OnStateChange
	target    *target.Proxy
	stdin     io.Reader
	fromStdin bool // tokens come from stdin

	outFile       string
	json          bool
	exitWithStdin bool // the end of standard input asks to stop

	tracer *tracing.Tracer // nil: off; must be closed

	log      zerolog.Logger
	logQueue *logqueue.Queue // writes log; never nil, and must be closed
}

// readConfig reads cmd's arguments and flags. The error has one line per fault;
// the log is open then too.
func readConfig(cmd *cli.Command) (config, error) {
	var faults cliapp.Faults
	c := config{outFile: cmd.String("out-file"), json: cmd.Bool("json"), stdin: cmd.Reader, exitWithStdin: cmd.Bool("exit-with-stdin")}
	level, odd := logLevel(cmd, &faults)
	c.log, c.logQueue = newLogger(c.json, level)
	routeStandardLog(c.log)
	if odd != "" {
		c.log.Warn().Msg(odd)
	}
	if setting := cliapp.HTTP2Debug(os.Getenv("GODEBUG")); setting != "" {
		c.log.Warn().Msgf("GODEBUG has %s: the headers of all requests are printed, including tokens and cookies", setting)
	}
	c.tunnel.Logger = c.log
	c.tunnel.PassBarePath = cmd.Bool("keep-prefix")
	c.readArguments(cmd, &faults)
	c.readTokens(cmd, &faults)
	c.tunnel.HTTPClient = newHTTPClient(cmd, c.tunnel.ServerURL, &faults)
	c.tunnel.Header = headers(cmd, "header", &faults)
	c.tunnel.Connections = cmd.Int("connections")
	c.tunnel.PingInterval = duration(cmd, "ping-interval", minPing, maxPingInterval, &faults)
	c.tunnel.PingTimeout = duration(cmd, "ping-timeout", minPing, maxPingTimeout, &faults)
	faults.AddConfig(c.tunnel.Validate(), func(field string) string {
		switch {
		case field == "ServerURL" && cmd.NArg() > 0:
			return "SERVER-URL"
		case field == "ID" && cmd.NArg() > 1:
			return "CLIENT-ID"
		case field == "ServerURL", field == "ID", field == "Tokens":
			return "" // readArguments and readTokens have noted that it is missing
		case field == "Header":
			return "--header"
		case field == "Connections":
			return "--connections"
		}
		return field
	})
	if c.outFile != "" {
		checkOutFile(c.outFile, &faults)
	}
	return c, faults.Err()
}

// readArguments reads the three positional arguments, and the flags about the
// target.
func (c *config) readArguments(cmd *cli.Command, faults *cliapp.Faults) {
	opts := tunnelclient.ProxyOptions{
		HostHeader:       cmd.String("host-header"),
		KeepPrefix:       cmd.Bool("keep-prefix"),
		RewriteRedirects: cmd.Bool("rewrite-redirects"),
		RedirectHeaders:  cmd.StringSlice("redirect-header"),
		RewriteOrigin:    cmd.Bool("rewrite-origin"),

		RequestHeader:        headers(cmd, "request-header", faults),
		RemoveRequestHeader:  cmd.StringSlice("remove-request-header"),
		ResponseHeader:       headers(cmd, "response-header", faults),
		RemoveResponseHeader: cmd.StringSlice("remove-response-header"),

		ServerName:         cmd.String("target-server-name"),
		InsecureSkipVerify: cmd.Bool("target-insecure-skip-verify"),
		Logger:             c.log,
	}
	if c.startTracing(faults); c.tracer != nil {
		opts.TraceRequest = c.traceRequest
	}
	opts.TLSConfig = &tls.Config{
		RootCAs:              rootCAs(cmd, "target-ca-file", faults),
		GetClientCertificate: clientCertificate(cmd, "target-client-cert", "target-client-key", faults),
	}
	args := cmd.Args().Slice()
	if len(args) != 3 {
		faults.Add("%d arguments given; there must be three: SERVER-URL CLIENT-ID TARGET; see wst-client --help", len(args))
	}
	if len(args) > 0 {
		c.tunnel.ServerURL = args[0]
	}
	if len(args) > 1 {
		c.tunnel.ID = args[1]
	}
	address := ""
	if len(args) > 2 {
		address = args[2]
	}
	var err error
	c.target, err = tunnelclient.ProxyTo(address, opts)
	faults.AddConfig(err, func(field string) string {
		switch {
		case field == "target" && len(args) > 2:
			return "TARGET"
		case field == "target":
			return "" // that it is missing is noted above
		}
		return cmp.Or(optionFlags[field], field)
	})
}

// optionFlags are the flags that set fields of tunnelclient.ProxyOptions.
var optionFlags = map[string]string{
	"Options.HostHeader":           "--host-header",
	"Options.RedirectHeaders":      "--redirect-header",
	"Options.RequestHeader":        "--request-header",
	"Options.RemoveRequestHeader":  "--remove-request-header",
	"Options.ResponseHeader":       "--response-header",
	"Options.RemoveResponseHeader": "--remove-response-header",
	"Options.ServerName":           "--target-server-name",
}

// readTokens decides where tokens come from.
func (c *config) readTokens(cmd *cli.Command, faults *cliapp.Faults) {
	token, file, env := cmd.String("token"), cmd.String("token-file"), os.Getenv(tokenVariable)
	switch {
	case cmd.IsSet("token") && cmd.IsSet("token-file"):
		faults.Add("--token and --token-file are both set: use only one of them")
	case cmd.IsSet("token"):
		c.tunnel.Tokens = staticToken(faults, "--token", token)
	case cmd.IsSet("token-file"):
		c.tunnel.Tokens = tunnelclient.TokenFile(file)
		if token, err := c.tunnel.Tokens.Token(context.Background()); err != nil {
			faults.Add("--token-file: %v", err)
		} else {
			staticToken(faults, fmt.Sprintf("--token-file %q", file), token)
		}
	case env != "":
		c.tunnel.Tokens = staticToken(faults, tokenVariable, env)
	default:
		c.tunnel.Tokens = tunnelclient.TokenReader(cmd.Reader)
		c.fromStdin = true
	}
}

// staticToken returns a source of one token. It notes a fault for text that cannot
// be a token, because the client would retry it for ever. The fault does not quote
// the text.
func staticToken(faults *cliapp.Faults, name, token string) tunnelclient.TokenSource {
	token = strings.TrimSpace(token)
	if fault := tokenFault(token); fault != "" {
		faults.Add("%s: %s", name, fault)
	}
	return tunnelclient.StaticToken(token)
}

// checkOutFile notes problems with writing the file that show before the start.
func checkOutFile(path string, faults *cliapp.Faults) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		faults.Add("--out-file %q: it is a directory; name a file", path)
	}
	dir := filepath.Dir(path)
	if info, err := os.Stat(dir); err != nil {
		faults.Add("--out-file %q: %v; create the directory first", path, err)
	} else if !info.IsDir() {
		faults.Add("--out-file %q: %s is not a directory", path, dir)
	}
}

// logLevel returns the level of the log. LOG_LEVEL may be meant for other programs,
// so that a level there that does not exist is no fault: odd says so.
func logLevel(cmd *cli.Command, faults *cliapp.Faults) (level zerolog.Level, odd string) {
	levels := cliapp.LogLevels()
	rule := "it must be " + strings.Join(levels, ", ")
	name := func(value string) string { return strings.ToLower(strings.TrimSpace(value)) }
	value, variable := name(cmd.String("log-level")), name(os.Getenv("LOG_LEVEL"))
	switch {
	case value != "" && !slices.Contains(levels, value):
		faults.Add("--log-level %q: %s", value, rule)
		return zerolog.InfoLevel, ""
	case value != "":
	case cmd.Bool("verbose"):
		value = "debug"
	case variable != "" && !slices.Contains(levels, variable):
		return zerolog.InfoLevel, fmt.Sprintf("LOG_LEVEL %q has no effect: %s", variable, rule)
	default:
		value = cmp.Or(variable, "info")
	}
	level, _ = zerolog.ParseLevel(value)
	return level, ""
}

// newLogger returns the logger for standard error, which never blocks, and the
// queue that writes it.
func newLogger(json bool, level zerolog.Level) (zerolog.Logger, *logqueue.Queue) {
	cliapp.SetLogTime()
	form := cliapp.LogConsole
	if json {
		form = cliapp.LogJSON
	}
	out, queue := cliapp.LogTo(os.Stderr, "wst-client", form)
	return zerolog.New(out).Level(level).With().Timestamp().Logger(), queue
}
