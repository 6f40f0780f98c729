package tunnelclient_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"

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
	// Output: tunnelclient: target "http://localhost:8080/app": a path or query is not supported, since viewers' paths arrive unchanged
}
