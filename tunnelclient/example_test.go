package tunnelclient_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

// Serve a handler of one's own until the program is interrupted.
func ExampleClient_Serve() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: "https://tunnel.example.com",
		ID:        "build-42",
		Tokens:    tunnelclient.TokenFile("/run/secrets/token"),
		OnStateChange: func(s tunnelclient.State) {
			fmt.Println(s.Phase, s.URL)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "You asked for %s.\n", r.URL.Path)
	})
	if err := c.Serve(ctx, handler); err != nil {
		fmt.Println("the tunnel cannot be opened:", err)
	}
}

// Tell people what happens to the tunnel.
func ExampleConfig_onStateChange() {
	cfg := tunnelclient.Config{
		ServerURL: "https://tunnel.example.com",
		ID:        "build-42",
		Tokens:    tunnelclient.TokenFile("/run/secrets/token"),
	}
	cfg.OnStateChange = func(s tunnelclient.State) {
		var ended *tunnelclient.SessionError
		var refused *tunnelclient.RefusedError
		switch {
		case errors.As(s.Err, &ended) && ended.Code == 4000:
			fmt.Println("another client has taken over", cfg.ID)
		case errors.As(s.Err, &ended):
			fmt.Println("disconnected:", ended)
		case errors.As(s.Err, &refused):
			fmt.Println("not admitted:", refused)
		case s.Err != nil:
			fmt.Println("trouble:", s.Err)
		}
		switch s.Phase {
		case tunnelclient.PhaseConnecting:
			fmt.Println("connecting")
		case tunnelclient.PhaseConnected:
			fmt.Println("viewers use", s.URL)
		case tunnelclient.PhaseDraining:
			fmt.Println("finishing requests in flight:", s.Reason)
		case tunnelclient.PhaseWaiting:
			fmt.Println("next attempt at", s.Next.Format("15:04:05"))
		}
	}

	// What a Client would call it with.
	cfg.OnStateChange(tunnelclient.State{Phase: tunnelclient.PhaseConnecting})
	cfg.OnStateChange(tunnelclient.State{Phase: tunnelclient.PhaseConnected, URL: "https://tunnel.example.com/build-42"})
	cfg.OnStateChange(tunnelclient.State{
		Phase: tunnelclient.PhaseWaiting,
		Err:   &tunnelclient.SessionError{Code: 1001},
		Next:  time.Date(2026, 5, 1, 12, 30, 7, 0, time.UTC),
	})
	// Output:
	// connecting
	// viewers use https://tunnel.example.com/build-42
	// disconnected: the session was closed with close code 1001
	// next attempt at 12:30:07
}

// Expose a server that runs on this machine.
func ExampleProxyTo() {
	handler, err := tunnelclient.ProxyTo("8080", tunnelclient.ProxyOptions{HostHeader: "localhost:8080"})
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: "https://tunnel.example.com",
		ID:        "build-42",
		Tokens:    tunnelclient.StaticToken(os.Getenv("WST_TOKEN")),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := c.Serve(context.Background(), handler); err != nil {
		fmt.Println(err)
	}
}

// A target is refused with the reason.
func ExampleProxyTo_invalid() {
	_, err := tunnelclient.ProxyTo("http://localhost:8080/app", tunnelclient.ProxyOptions{})
	fmt.Println(err)
	// Output: target "http://localhost:8080/app": a path or query is not supported, since viewers' paths arrive unchanged
}
