package main

import (
	"context"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

const description = `SERVER-URL  the service, http(s):// or ws(s)://
CLIENT-ID   the id to serve under, of A-Z a-z 0-9 _ ~ . % -
TARGET      where requests go: a port of this machine, host:port, http://host[:port],
            https://host[:port], h2c://host[:port] or unix:///path/of/socket
Flags may stand anywhere; -- ends them, for an id that begins with a dash.

Once connected, the URL that viewers use is printed on standard output, with --json
as {"url":"..."}. The log goes to standard error.

The token comes from the first of these that is given:
   --token T         visible to all users of this machine in the list of processes (ps)
   --token-file F    read again when the file changes
   WST_TOKEN         in the environment
   standard input    each line is a token as soon as it arrives; a later one takes the place of
                     the one before without an interruption, and the end of input is no reason to stop

SIGINT or SIGTERM: requests in flight are finished, for up to 10 s; exit 0. A second one ends it
at once. Exit 1: the service refused the tunnel and a retry cannot help. Exit 2: faulty command
line, or the end of standard input before any token. Otherwise it reconnects for ever.`

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
		Usage:       "let viewers reach an HTTP server behind NAT",
		UsageText:   "wst-client SERVER-URL CLIENT-ID TARGET [flags]",
		Description: description,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "token", Category: catToken, Usage: "the `token`. It shows in ps: better use one of the other ways above"},
			&cli.StringFlag{Name: "token-file", Category: catToken, Usage: "`file` with the token, read again when it changes", TakesFile: true},

			&cli.StringFlag{Name: "out-file", Category: catOutput, Usage: "write the viewer URL, and nothing else, to this `file` once connected", TakesFile: true},
			&cli.BoolFlag{Name: "verbose", Category: catOutput, Usage: "log more", HideDefault: true},
			&cli.BoolFlag{Name: "json", Category: catOutput, Usage: "log JSON lines", HideDefault: true},

			&cli.StringFlag{Name: "ca-file", Category: catService, Usage: "trust the CA certificates in this PEM `file` instead of the system's", TakesFile: true},
			&cli.StringFlag{Name: "client-cert", Category: catService, Usage: "PEM `file` with a client certificate, read again for each connection", TakesFile: true},
			&cli.StringFlag{Name: "client-key", Category: catService, Usage: "PEM `file` with its private key", TakesFile: true},
			&cli.StringFlag{Name: "proxy", Category: catService, Usage: "connect through this proxy: an http, https or socks5 `URL`; without it, HTTPS_PROXY, HTTP_PROXY and NO_PROXY hold"},
			&cli.StringFlag{Name: "ping-interval", Category: catService, Usage: "ping the service when it has been silent for this `time`, 1s to 10m", DefaultText: "15s"},
			&cli.StringFlag{Name: "ping-timeout", Category: catService, Usage: "reconnect when it takes longer than this `time`, 1s to 1m, to answer a ping", DefaultText: "10s"},

			&cli.BoolFlag{Name: "keep-prefix", Category: catTarget, Usage: "send paths to the target with the prefix that viewers see, /<id>: for a target that is configured with it"},
			&cli.BoolFlag{Name: "rewrite-redirects", Category: catTarget, Usage: "put the prefix before absolute paths in Location, Content-Location, Refresh and cookies of the target's answers: for a target that does not know it"},
			&cli.StringFlag{Name: "host-header", Category: catTarget, Usage: "Host header for the target: a `host` or host:port instead of the one that the viewer sent"},
			&cli.StringFlag{Name: "target-ca-file", Category: catTarget, Usage: "trust the PEM certificates in this `file` for an https target, instead of the system's"},
			&cli.BoolFlag{Name: "target-insecure-skip-verify", Category: catTarget, Usage: "accept any certificate of an https target", HideDefault: true},
		},
		// There are no commands: neither "help", nor what --help comes after.
		HideHelpCommand: true,
		CommandNotFound: func(_ context.Context, cmd *cli.Command, _ string) {
			_ = cli.ShowRootCommandHelp(cmd) // as urfave/cli itself ignores it
		},
		Reader:    os.Stdin,
		Writer:    os.Stdout,
		ErrWriter: os.Stderr,
		Action: func(_ context.Context, cmd *cli.Command) error {
			c, err := readConfig(cmd)
			if err != nil {
				return err
			}
			return runClient(c)
		},
	}
}
