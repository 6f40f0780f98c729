package main

import (
	"context"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

const description = `SERVER-URL  URL of the service: http(s):// or ws(s)://
CLIENT-ID   id to serve under: characters of A-Z a-z 0-9 _ ~ . % -
TARGET      where requests go: a port of this machine, host:port,
            http://host[:port], https://host[:port], h2c://host[:port]
            or unix:///path/of/socket
Flags may stand anywhere. Put -- before an id that begins with a dash.

Examples:
   wst-client https://tunnel.example.com my-app 3000 --token-file token
   wst-client https://tunnel.example.com api h2c://127.0.0.1:50051 < token
   wst-client https://tunnel.example.com mcp 6274 --token-file token \
       --host-header localhost:6274 --rewrite-origin
   wst-client https://tunnel.example.com app https://10.0.0.7 < token \
       --target-server-name app.internal --request-header 'X-Key: 42'

Once connected, wst-client prints the client URL on standard output, with
--json as {"url":"..."}. The log goes to standard error.

The token comes from the first of these that is set:
   --token T         visible to all users of this machine in ps
   --token-file F    read again when the file changes
   WST_TOKEN         environment variable
   standard input    each line is a token as soon as it arrives; later tokens
                     replace earlier ones without an interruption, and the
                     tunnel stays open after the end of input,
                     unless --exit-with-stdin is set

On SIGINT or SIGTERM, wst-client finishes requests in flight for up to 10 s
and exits with status 0. A second signal stops it at once. Status 1: the
service refused the tunnel and retrying cannot help. Status 2: the command
line is faulty, or standard input ended before any token. In all other cases
wst-client keeps reconnecting.`

// Categories of flags.
const (
	catToken   = "Token"
	catOutput  = "Output"
	catService = "Service"
	catTarget  = "Target"
)

// run runs the command line args and returns the exit status.
func run(args []string) int { return cliapp.Run(newApp(), args) }

func newApp() *cli.Command {
	return &cli.Command{
		Name:        "wst-client",
		Usage:       "make an HTTP server behind NAT reachable",
		UsageText:   "wst-client SERVER-URL CLIENT-ID TARGET [flags]",
		Description: description,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "token", Category: catToken, Usage: "The `token`. It is visible in ps; the other ways above are safer."},
			&cli.StringFlag{Name: "token-file", Category: catToken, Usage: "`File` with the token, read again when it changes.", TakesFile: true},

			&cli.BoolFlag{Name: "exit-with-stdin", Category: catOutput, Usage: "Stop when standard input ends, as on SIGTERM, so that a child process does not outlive its parent.", HideDefault: true},
			&cli.StringFlag{Name: "out-file", Category: catOutput, Usage: "Write the client URL, and nothing else, to this `file` once connected.", TakesFile: true},
			&cli.BoolFlag{Name: "verbose", Category: catOutput, Usage: "Log more, as --log-level debug.", HideDefault: true},
			&cli.StringFlag{Name: "log-level", Category: catOutput, Usage: "`Level` from which on lines are logged: trace, debug, info, warn or error. Without this flag and --verbose, the variable LOG_LEVEL applies.", DefaultText: "info"},
			&cli.BoolFlag{Name: "json", Category: catOutput, Usage: "Log JSON lines.", HideDefault: true},

			&cli.StringFlag{Name: "ca-file", Category: catService, Usage: "PEM `file` with the CA certificates to trust instead of the system's.", TakesFile: true},
			&cli.StringFlag{Name: "client-cert", Category: catService, Usage: "PEM `file` with a client certificate, read again for each connection.", TakesFile: true},
			&cli.StringFlag{Name: "client-key", Category: catService, Usage: "PEM `file` with the private key of the client certificate.", TakesFile: true},
			&cli.StringFlag{Name: "proxy", Category: catService, Usage: "http, https or socks5 `URL` of the proxy to connect through. Without this flag, HTTPS_PROXY, HTTP_PROXY and NO_PROXY apply."},
			&cli.StringSliceFlag{Name: "header", Category: catService, Usage: "`Header`, as 'Name: value', that a front of the service wants to see with the registration. Repeatable. @FILE reads the lines of a file, which keeps a secret out of ps."},
			&cli.IntFlag{Name: "connections", Category: catService, Usage: "`Number` of websockets of the tunnel, 1 to 8, where the service admits more than one. More are of use for requests that run side by side on a network that loses packets.", DefaultText: "1"},
			&cli.StringFlag{Name: "ping-interval", Category: catService, Usage: "`Time` of silence after which the client pings the service, 1s to 10m.", DefaultText: "15s, or what the service asks for"},
			&cli.StringFlag{Name: "ping-timeout", Category: catService, Usage: "`Time` for the service to answer a ping before the client reconnects, 1s to 1m.", DefaultText: "10s, or what the service asks for"},

			&cli.BoolFlag{Name: "keep-prefix", Category: catTarget, Usage: "Keep the prefix that viewers see, /<id>, in the paths that the target gets, for a target that is configured with it."},
			&cli.BoolFlag{Name: "rewrite-redirects", Category: catTarget, Usage: "Add the prefix to absolute paths in Location, Link, HX-Redirect and other headers of answers that hold URLs, and in cookies, for a target that does not know it."},
			&cli.StringSliceFlag{Name: "redirect-header", Category: catTarget, Usage: "`Name` of a further header that holds a URL, for --rewrite-redirects. Repeatable."},
			&cli.StringFlag{Name: "host-header", Category: catTarget, Usage: "`Host` or host:port to send to the target as the Host header, instead of the viewer's."},
			&cli.BoolFlag{Name: "rewrite-origin", Category: catTarget, Usage: "Where Origin is the viewer's URL, send the target's own, with the host of --host-header: for a target that refuses other origins.", HideDefault: true},
			&cli.StringSliceFlag{Name: "request-header", Category: catTarget, Usage: "`Header`, as 'Name: value' or @FILE, that the target gets with each request, in place of the viewer's. Repeatable."},
			&cli.StringSliceFlag{Name: "remove-request-header", Category: catTarget, Usage: "`Name` of a header that the target does not get. Repeatable."},
			&cli.StringSliceFlag{Name: "response-header", Category: catTarget, Usage: "`Header`, as 'Name: value' or @FILE, that viewers get with each answer, in place of the target's. Repeatable."},
			&cli.StringSliceFlag{Name: "remove-response-header", Category: catTarget, Usage: "`Name` of a header that viewers do not get. Repeatable."},
			&cli.StringFlag{Name: "target-ca-file", Category: catTarget, Usage: "PEM `file` with the certificates to trust for an https target, instead of the system's."},
			&cli.StringFlag{Name: "target-client-cert", Category: catTarget, Usage: "PEM `file` with a client certificate for an https target, read again for each connection.", TakesFile: true},
			&cli.StringFlag{Name: "target-client-key", Category: catTarget, Usage: "PEM `file` with the private key of that certificate.", TakesFile: true},
			&cli.StringFlag{Name: "target-server-name", Category: catTarget, Usage: "`Name` that an https target's certificate must cover, and that the TLS handshake names (SNI). Without this flag, it is the host of --host-header, otherwise the target's."},
			&cli.BoolFlag{Name: "target-insecure-skip-verify", Category: catTarget, Usage: "Accept any certificate of an https target.", HideDefault: true},
		},
		DisableSliceFlagSeparator: true, // values of headers have commas
		// There are no commands, so no "help"; --help works after any argument.
		HideHelpCommand: true,
		CommandNotFound: func(_ context.Context, cmd *cli.Command, _ string) {
			_ = cli.ShowRootCommandHelp(cmd) // as urfave/cli itself ignores it
		},
		Reader:    os.Stdin,
		Writer:    os.Stdout,
		ErrWriter: os.Stderr,
		Action: func(_ context.Context, cmd *cli.Command) error {
			cliapp.SurviveReaders()
			cliapp.IgnoreHangup()
			signals, stopSignals := cliapp.StopSignals() // before the first line that a parent may wait for
			defer stopSignals()
			c, err := readConfig(cmd)
			if err == nil {
				err = runClient(c, signals)
			}
			c.logQueue.Close(cliapp.FlushTimeout)
			return err
		},
	}
}
