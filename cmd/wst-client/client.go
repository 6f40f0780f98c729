package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// tellTimeout is how long the viewer URL may take to be told when everything
// else has ended: it may go into a pipe.
const tellTimeout = time.Second

// runClient keeps the tunnel open until a signal comes or an error is final.
func runClient(c config) error {
	signals, stopSignals := cliapp.StopSignals()
	defer stopSignals()

	told := newAnnouncer(c)
	c.tunnel.OnStateChange = func(st tunnelclient.State) { logState(c, told, st) }
	client, err := tunnelclient.New(c.tunnel)
	if err != nil {
		return err
	}
	if c.fromStdin && cliapp.IsTerminal(os.Stdin) {
		c.log.Info().Msg("no token given: each line of standard input is taken for one; see wst-client --help")
	}

	ctx, cancel := context.WithCancel(context.Background())
	served, untold, telling := make(chan error, 1), make(chan error, 1), make(chan struct{})
	go func() { served <- client.Serve(ctx, c.target) }()
	go func() {
		defer close(telling)
		if err := told.run(ctx); err != nil {
			untold <- err
		}
	}()

	stopping := false
	for {
		select {
		case sig := <-signals:
			if stopping {
				c.log.Warn().Stringer("signal", sig).Msg("stopping at once: requests in flight are cut off")
				cancel()
				return cli.Exit("", cliapp.ExitFailure)
			}
			stopping = true
			c.log.Info().Stringer("signal", sig).Msg("stopping; a second signal stops at once")
			cancel()
		case err = <-untold:
			// Whoever waits for the URL would wait for ever.
			cancel()
		case e := <-served:
			cancel()
			select {
			case <-telling:
			case <-time.After(tellTimeout): // nobody reads it
			}
			c.target.CloseIdleConnections()
			if err == nil {
				err = e
			}
			return c.final(err)
		}
	}
}

// final returns the error with which the command ends.
func (c config) final(err error) error {
	switch {
	case err == nil:
		c.log.Debug().Msg("stopped")
		return nil
	case errors.Is(err, tunnelclient.ErrNoToken):
		return cliapp.NewUsageError("%v; give a token with --token-file or %s, or write one to standard input", err, tokenVariable)
	case c.json:
		c.log.Error().Err(err).Msg("giving up")
		return cli.Exit("", cliapp.ExitFailure)
	}
	return err
}

// logState logs the changes of state that the tunnelclient package itself says
// nothing about, so that there is one line for each, and hands on the URL.
func logState(c config, told *announcer, st tunnelclient.State) {
	switch st.Phase {
	case tunnelclient.PhaseConnecting:
		c.log.Info().Str("id", c.tunnel.ID).Str("service", c.tunnel.ServerURL).Msg("connecting")
	case tunnelclient.PhaseConnected:
		told.put(st.URL)
	case tunnelclient.PhaseDraining, tunnelclient.PhaseWaiting:
	}
}
