package main

import (
	"context"
	"errors"
	"io"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// stdinEnd returns a channel that is closed when standard input has ended,
// which is what a parent does that ends, however it ends. If standard input is
// where tokens come from and has had none, it is not closed: that is an error,
// and the tunnel client ends by itself.
func stdinEnd(ctx context.Context, c config) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		if c.fromStdin {
			if !tokensEnd(ctx, c.tunnel.Tokens) {
				return
			}
		} else {
			// An error ends it as well: there is nothing to come.
			_, _ = io.Copy(io.Discard, c.stdin)
		}
		close(ended)
	}()
	return ended
}

// tokensEnd waits until src will have no other token, and reports whether it
// has had one. It returns false when ctx ends.
func tokensEnd(ctx context.Context, src tunnelclient.TokenSource) bool {
	updater, ok := src.(tunnelclient.TokenUpdater)
	if !ok {
		return false
	}
	for token := ""; ; {
		next, err := updater.NextToken(ctx, token)
		if err != nil {
			return ctx.Err() == nil && !errors.Is(err, tunnelclient.ErrNoToken)
		}
		token = next
	}
}
