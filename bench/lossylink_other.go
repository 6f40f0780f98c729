//go:build !linux

package main

import (
	"context"
	"errors"
	"net"
)

var errNoLossyLink = errors.New("links that lose packets need Linux")

func lossyLinkPossible() error { return errNoLossyLink }

func congestionAllowed(string) bool { return false }

func runLossyLink(context.Context, lossyLinkSettings) error { return errNoLossyLink }

func enterPlace([]string) error { return errNoLossyLink }

func (p place) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, addr)
}
