package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// roles are what this binary can be, apart from the controller. Each gets its
// settings as JSON on standard input and runs until ctx ends.
var roles = map[string]func(ctx context.Context, settings []byte) error{
	"target":        role(runTarget),
	"proxy":         role(runProxy),
	"yamux-service": role(runYamuxService),
	"yamux-client":  role(runYamuxClient),
	"relay":         role(runRelay),
	"lossy-link":    role(runLossyLink),
	"crowd":         role(runCrowd),
	"load":          role(runLoad),
}

// role decodes the settings of run.
func role[T any](run func(context.Context, T) error) func(context.Context, []byte) error {
	return func(ctx context.Context, settings []byte) error {
		var s T
		if err := json.Unmarshal(settings, &s); err != nil {
			return fmt.Errorf("settings of the role: %w", err)
		}
		return run(ctx, s)
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is main without its globals. It returns the exit status: 0, 1 for a
// failure, 2 for a faulty command line and 130 after an interrupt.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 2 && args[0] == "role" {
		run, ok := roles[args[1]]
		if !ok {
			fmt.Fprintf(stderr, "bench: there is no role %q\n", args[1])
			return 2
		}
		settings, err := io.ReadAll(os.Stdin)
		if err == nil {
			err = run(ctx, settings)
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(stderr, "bench %s: %v\n", args[1], err)
			return 1
		}
		return 0
	}

	if len(args) > 0 && args[0] == "enter" {
		fmt.Fprintf(stderr, "bench: %v\n", enterPlace(args[1:])) // it returns on errors only
		return 1
	}

	opts, err := parseOptions(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 2
	}
	if opts.list {
		listWorkloads(stdout)
		return 0
	}
	if runtime.GOOS != "linux" {
		fmt.Fprintln(stderr, "bench: it runs on Linux only, because it reads /proc")
		return 1
	}
	err = control(ctx, opts, stdout, stderr)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "bench: interrupted; all processes have been ended")
		return 130
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}
