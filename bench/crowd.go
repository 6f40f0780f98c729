package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// crowdSettings are those of the role crowd: many tunnel clients in one process.
type crowdSettings struct {
	Service string `json:"service"`
	Secret  string `json:"secret"`
	Tunnels int    `json:"tunnels"`
	Dialers int    `json:"dialers"` // how many connect at a time at the beginning
}

// crowdID is the id of the i-th tunnel.
func crowdID(i int) string { return fmt.Sprintf("crowd-%d", i) }

// crowdStatus is a line that the crowd prints when the number changes.
type crowdStatus struct {
	Connected int `json:"connected"`
}

func runCrowd(ctx context.Context, s crowdSettings) error {
	var connected atomic.Int64
	handler := targetHandler()
	transport := &http.Transport{TLSClientConfig: insecureTLS()}
	turn := make(chan struct{}, s.Dialers)

	var wg sync.WaitGroup
	wg.Go(func() { printStatus(ctx, &connected) })
	for i := range s.Tunnels {
		id := crowdID(i)
		token, err := mint(s.Secret, id)
		if err != nil {
			return err
		}
		first := make(chan struct{})
		var once sync.Once
		up := false
		client, err := tunnelclient.New(tunnelclient.Config{
			ServerURL:  s.Service,
			ID:         id,
			Tokens:     tunnelclient.StaticToken(token),
			HTTPClient: &http.Client{Transport: transport},
			OnStateChange: func(state tunnelclient.State) {
				switch now := state.Phase == tunnelclient.PhaseConnected; {
				case now && !up:
					connected.Add(1)
					once.Do(func() { close(first) })
					up = true
				case !now && up:
					connected.Add(-1)
					up = false
				}
			},
		})
		if err != nil {
			return err
		}
		select {
		case turn <- struct{}{}:
		case <-ctx.Done():
			wg.Wait()
			return ctx.Err()
		}
		wg.Go(func() { _ = client.Serve(ctx, handler) })
		wg.Go(func() {
			select {
			case <-first:
			case <-ctx.Done():
			}
			<-turn
		})
	}
	wg.Wait()
	return nil
}

// printStatus prints how many tunnels are connected when that number has changed.
// It checks ten times a second.
func printStatus(ctx context.Context, connected *atomic.Int64) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := int64(-1)
	for {
		if now := connected.Load(); now != last {
			last = now
			_ = report(crowdStatus{int(now)})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// crowdTimeout is the longest time without any change while a crowd connects. It
// is longer than the longest back-off of a tunnel client.
const crowdTimeout = 60 * time.Second

// mint returns a token for one id.
func mint(secret, id string) (string, error) {
	return server.MintToken([]byte(secret), server.Claims{ID: id, TTL: 24 * time.Hour})
}
