package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/gcpace"
	"github.com/websocktunnel/websocktunnel/cmd/internal/processors"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// probeTimeout bounds the check at the start whether the target is there.
const probeTimeout = 5 * time.Second

// announceTimeout is how long writing the client URL may take when everything
// else has ended: it may go into a pipe that nobody reads.
const announceTimeout = time.Second

// runClient keeps the tunnel open until a signal comes or an error is final.
func runClient(c config, signals <-chan os.Signal) error {
	defer gcpace.Start(budget.Available(), nil)()
	defer processors.Start()()
	netconn.AllowRaw(true)

	announcer := newAnnouncer(c)
	c.tunnel.OnStateChange = func(st tunnelclient.State) { logState(c, announcer, st) }
	client, err := tunnelclient.New(c.tunnel)
	if err != nil {
		return err
	}
	if c.fromStdin && cliapp.IsTerminal(os.Stdin) {
		c.log.Info().Msg("no token set; reading tokens from standard input, one on each line; see wst-client --help")
	}

	ctx, cancel := context.WithCancel(context.Background())
	served, failed, announced := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() { served <- client.Serve(ctx, c.target) }()
	var probing sync.WaitGroup
	defer probing.Wait()
	defer cancel()
	probing.Go(func() { probe(ctx, c) })
	go func() {
		defer close(announced)
		if err := announcer.run(ctx); err != nil {
			failed <- err
		}
	}()

	var ended <-chan struct{} // nil: never
	if c.exitWithStdin {
		ended = stdinEnd(ctx, c)
	}

	stopping := false
	for {
		select {
		case <-ended:
			// A parent may close standard input and then send a signal. The
			// first signal still cuts nothing off.
			ended = nil
			c.log.Info().Msg("stopping; standard input has ended")
			cancel()
		case sig := <-signals:
			if stopping {
				c.log.Warn().Stringer("signal", sig).Msg("stopping at once; requests in flight are cut off")
				cancel()
				return cli.Exit("", cliapp.ExitFailure)
			}
			stopping = true
			c.log.Info().Stringer("signal", sig).Msg("stopping; a second signal stops at once")
			cancel()
		case err = <-failed:
			// A program that waits for the URL would wait for ever.
			cancel()
		case e := <-served:
			cancel()
			select {
			case <-announced:
			case <-time.After(announceTimeout): // nobody reads the URL
			}
			c.target.CloseIdleConnections()
			c.tracer.Close()
			if err == nil {
				err = e
			}
			return c.final(err)
		}
	}
}

// probe warns if nothing listens at the target: viewers would be the first to
// notice.
func probe(ctx context.Context, c config) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if err := c.target.Probe(ctx); err != nil && !errors.Is(err, context.Canceled) {
		c.log.Warn().Err(err).Msg("the target cannot be reached; viewers get 502 until it can")
	}
}

// final returns the error with which the command ends.
func (c config) final(err error) error {
	switch {
	case err == nil:
		c.log.Debug().Msg("stopped")
		return nil
	case errors.Is(err, tunnelclient.ErrNoToken):
		return cliapp.NewUsageError("%v; set a token with --token-file or %s, or write one to standard input", err, tokenVariable)
	case c.json:
		c.log.Error().Err(err).Msg("giving up")
		return cli.Exit("", cliapp.ExitFailure)
	}
	return err
}

// logState logs the changes of state that package tunnelclient does not log itself,
// so that each has one line, and passes on the URL.
func logState(c config, a *announcer, st tunnelclient.State) {
	switch st.Phase {
	case tunnelclient.PhaseConnecting:
		c.log.Info().Str("id", c.tunnel.ID).Str("service", c.tunnel.ServerURL).Msg("connecting")
	case tunnelclient.PhaseConnected:
		a.put(st.URL)
	case tunnelclient.PhaseDraining, tunnelclient.PhaseWaiting:
	}
}
