package cliapp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
)

// Exit statuses.
const (
	ExitFailure = 1 // the command failed
	ExitUsage   = 2 // the command line or configuration is faulty
)

// Run runs app with the command line args, reports an error on app's
// ErrWriter, one line per fault, and returns the exit status.
func Run(app *cli.Command, args []string) int {
	app.Version = buildinfo.Get().Version
	cli.VersionPrinter = func(cmd *cli.Command) { fmt.Fprintln(cmd.Root().Writer, Version(app.Name)) }
	app.ExitErrHandler = func(context.Context, *cli.Command, error) {} // that is report's task
	setHelp()
	app.CustomRootCommandHelpTemplate = strings.ReplaceAll(cli.RootCommandHelpTemplate, "GLOBAL OPTIONS", "OPTIONS")
	setUsageHandler(app)
	err := app.Run(context.Background(), args)
	if err == nil {
		return 0
	}
	// An error that nobody reads must not keep the command from ending.
	SurviveReaders()
	out := logqueue.New(app.ErrWriter, nil)
	defer out.Close(FlushTimeout)
	return report(app.Name, out, err)
}

// report writes err to out and returns its exit status.
func report(name string, out io.Writer, err error) int {
	var (
		usage *UsageError
		coder cli.ExitCoder
	)
	switch {
	case errors.As(err, &usage):
		for _, line := range usage.Lines {
			fmt.Fprintf(out, "%s: %s\n", name, line)
		}
		return ExitUsage
	case errors.As(err, &coder):
		if coder.Error() == "" {
			return coder.ExitCode() // the command has reported it
		}
		// From urfave/cli itself: an unknown help topic.
		fmt.Fprintf(out, "%s: %s\n", name, oneLine(coder.Error()))
		return ExitUsage
	}
	fmt.Fprintf(out, "%s: %s\n", name, oneLine(err.Error()))
	return ExitFailure
}

// setUsageHandler makes cmd and its subcommands return a UsageError for a
// command line that cannot be parsed, rather than print it with the help.
func setUsageHandler(cmd *cli.Command) {
	cmd.OnUsageError = func(_ context.Context, cmd *cli.Command, err error, _ bool) error {
		return NewUsageError("%s; see %s --help", rephrase(err.Error()), cmd.FullName())
	}
	for _, sub := range cmd.Commands {
		setUsageHandler(sub)
	}
}

// rephrase puts urfave/cli's errors into words for the user, with flags
// written as they were typed.
func rephrase(s string) string {
	if name, ok := strings.CutPrefix(s, "flag provided but not defined: -"); ok {
		if len(name) > 1 {
			name = "-" + name
		}
		return "unknown flag -" + name
	}
	if name, ok := strings.CutPrefix(s, "flag needs an argument: "); ok {
		return "flag " + name + " needs a value"
	}
	return strings.Replace(s, " for flag -", " for flag --", 1)
}

// Version returns the line that names a build of the command called name.
func Version(name string) string {
	info := buildinfo.Get()
	return fmt.Sprintf("%s %s (commit %s, built %s)", name, info.Version, info.Commit, info.Build)
}
