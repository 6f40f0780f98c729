package main

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
)

// run runs the command line args and returns the exit status.
func run(args []string) int { return cliapp.Run(newApp(), args) }

func newApp() *cli.Command {
	return &cli.Command{
		Name:  "websocktunnel",
		Usage: "make HTTP servers behind NAT reachable through tunnels",
		UsageText: "websocktunnel [serve] [flags]\n" +
			"websocktunnel token --id ID [--ttl 24h] [--audience A] [--secret-file F]\n" +
			"websocktunnel demo [--port 8080] [--target URL]\n" +
			"websocktunnel admin tunnels|show|evict|unblock|evicted|reload|drain\n" +
			"websocktunnel version | completion SHELL",
		Description: "Without a command, it runs the service. \"websocktunnel serve --help\" lists\n" +
			"the settings. To try it without any configuration, run \"websocktunnel demo\".",
		DefaultCommand: "serve",
		Commands: []*cli.Command{
			serveCommand(),
			tokenCommand(),
			demoCommand(),
			adminCommand(),
			versionCommand(),
		},
		EnableShellCompletion:           true,
		ConfigureShellCompletionCommand: configureCompletion,
		Writer:                          os.Stdout,
		ErrWriter:                       os.Stderr,
	}
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Action: func(_ context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.Writer, cliapp.Version(cmd.Root().Name))
			return err
		},
	}
}

// configureCompletion shows the completion command, which urfave/cli makes and
// hides, and makes it refuse unknown shells.
func configureCompletion(cmd *cli.Command) {
	cmd.Hidden = false
	cmd.Usage = "print a completion script for a shell"
	cmd.Action = func(_ context.Context, cmd *cli.Command) error {
		if !cmd.Args().Present() {
			return cliapp.NewUsageError("completion: which shell? Name bash, zsh, fish or pwsh, for example \"websocktunnel completion bash\"")
		}
		return cliapp.NewUsageError("completion: shell %q is unknown; it must be bash, zsh, fish or pwsh", cmd.Args().First())
	}
}

// noArguments returns an error if cmd has arguments.
func noArguments(cmd *cli.Command) error {
	if !cmd.Args().Present() {
		return nil
	}
	return cliapp.NewUsageError("%q is neither a command nor a flag of %s; see %s --help",
		cmd.Args().First(), cmd.FullName(), cmd.Root().Name)
}
