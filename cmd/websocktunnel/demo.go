package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
	"github.com/websocktunnel/websocktunnel/internal/demosite"
	"github.com/websocktunnel/websocktunnel/server"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

const (
	demoID   = "demo"
	demoPort = 8080
	// demoPorts is how many ports from demoPort on are tried.
	demoPorts = 20
)

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "run service, client and a demo site in one process",
		UsageText: "websocktunnel demo [--port 8080] [--target URL]",
		Description: "The demo needs no configuration, listens on this machine only, and stores\n" +
			"nothing. If port 8080 is taken and you do not set --port, it uses the next\n" +
			"free port.\n" +
			"\n" +
			"The tunnel has a host of its own, demo.localhost, and is also at /demo/ below\n" +
			"http://127.0.0.1:8080. With --keep-prefix or --rewrite-redirects, it is only\n" +
			"at http://localhost:8080/demo/.\n" +
			"\n" +
			"Examples:\n" +
			"   websocktunnel demo\n" +
			"   websocktunnel demo --target 3000        your app at port 3000",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "port", Usage: "`Port` to listen on; 0 chooses a free one.", DefaultText: "8080"},
			&cli.BoolFlag{Name: "keep-prefix", Usage: "Serve at /demo/, and keep that prefix in the paths that the target gets, for a target that is configured with it."},
			&cli.BoolFlag{Name: "rewrite-redirects", Usage: "Serve at /demo/, and add that prefix to the paths in redirects and cookies, for a target that does not know it."},
			&cli.StringFlag{Name: "target", Usage: "`URL` or port of an HTTP server to show through the tunnel.", DefaultText: "a small demo site"},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			return demoAction(cmd)
		},
	}
}

// demoAction checks the flags and runs the demo until a signal ends it.
func demoAction(cmd *cli.Command) error {
	cliapp.SetLogTime()
	cliapp.SurviveReaders()
	logOut, logQueue := cliapp.LogTo(os.Stderr, "websocktunnel", cliapp.LogConsole)
	defer logQueue.Close(cliapp.FlushTimeout)
	stdout := logqueue.New(cmd.Writer, nil)
	defer stdout.Close(cliapp.FlushTimeout)
	log := zerolog.New(logOut).Level(zerolog.WarnLevel).With().Timestamp().Logger()
	var faults cliapp.Faults
	port, orNext := demoPort, true
	if s := cmd.String("port"); s != "" {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			faults.Add("--port %q: it must be a number from 0 to 65535", s)
		}
		port, orNext = int(n), false
	}
	handler, shown := demosite.Handler(), "a small demo site in this process"
	if target := cmd.String("target"); target != "" {
		proxy, err := tunnelclient.ProxyTo(target, tunnelclient.ProxyOptions{
			KeepPrefix:       cmd.Bool("keep-prefix"),
			RewriteRedirects: cmd.Bool("rewrite-redirects"),
			Logger:           log,
		})
		faults.AddConfig(err, func(string) string { return "--target" })
		handler, shown = proxy, target
	}
	if err := faults.Err(); err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listeners, taken, err := demoListen(ctx, port, orNext)
	if err != nil {
		return err
	}
	if taken {
		fmt.Fprintf(stdout, "Port %d is taken; using %d.\n", demoPort, portOf(listeners[0]))
	}
	context.AfterFunc(ctx, stop) // a second signal ends the process
	config := demoConfig(portOf(listeners[0]), cmd.Bool("keep-prefix") || cmd.Bool("rewrite-redirects"))
	config.Logger = log
	return demo(ctx, listeners, handler, cmd.Bool("keep-prefix"), config, func(url string) {
		printDemo(stdout, config, url, shown)
	})
}

// demoConfig returns what the service needs to be reached on this machine: by
// the tunnel's host, and by path too, or only by path.
func demoConfig(port int, byPath bool) server.Config {
	if byPath {
		return server.Config{PublicURL: fmt.Sprintf("http://localhost:%d", port)}
	}
	return server.Config{PublicURL: fmt.Sprintf("http://127.0.0.1:%d", port), ViewerDomain: "localhost"}
}

func printDemo(w io.Writer, config server.Config, url, target string) {
	path, hint := "", "Open the URL in a browser."
	if config.ViewerDomain != "" {
		path = fmt.Sprintf("    by path      %s/%s/\n", config.PublicURL, demoID)
		hint = "Open the client URL in a browser, or the one by path if its host is not found."
	}
	fmt.Fprintf(w, `
  websocktunnel demo

    client URL   %s/
%s    target       %s

  %s
  Ctrl-C stops the demo.

`, url, path, target, hint)
}

// demo runs a service with config on listeners, connects a tunnel client to it
// that answers with h, which may want the bare path too, calls ready with the client URL, and waits until ctx ends.
func demo(ctx context.Context, listeners []net.Listener, h http.Handler, barePath bool, config server.Config, ready func(url string)) error {
	secret := make([]byte, minSecret)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	config.Secrets = [][]byte{secret}
	srv, err := server.New(config)
	if err != nil {
		closeAll(listeners)
		return err
	}
	client, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: "http://" + listeners[0].Addr().String(),
		ID:        demoID,
		Tokens: tunnelclient.TokenFunc(func(context.Context) (string, error) {
			return server.MintToken(secret, server.Claims{ID: demoID, TTL: 24 * time.Hour})
		}),
		PassBarePath: barePath,
		Logger:       config.Logger,
		// The page's own websocket and event stream would never finish.
		DrainTimeout: -1,
	})
	if err != nil {
		closeAll(listeners)
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(listeners)+1)
	var serving, connecting sync.WaitGroup
	for _, ln := range listeners {
		serving.Go(func() {
			if err := srv.Serve(ln); !errors.Is(err, server.ErrServerClosed) {
				failed <- err
				cancel()
			}
		})
	}
	connecting.Go(func() {
		if err := client.Serve(ctx, h); err != nil {
			failed <- err
			cancel()
		}
	})
	if url, err := client.URL(ctx); err == nil {
		ready(url)
	}
	<-ctx.Done()

	// The client goes first, so that the service ends its sessions for no
	// other reason.
	connecting.Wait()
	if c, ok := h.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
	err = srv.Close()
	serving.Wait()
	select {
	case err = <-failed:
	default:
	}
	return err
}

// demoListen listens on port, on both loopback addresses: browsers may take
// "localhost" for either. If the port is taken and orNext is true, the next free
// one is used instead; taken reports that.
func demoListen(ctx context.Context, port int, orNext bool) (listeners []net.Listener, taken bool, err error) {
	for p := port; p < port+demoPorts && p <= 65535; p++ {
		listeners, err = loopback(ctx, p)
		if err == nil {
			return listeners, p != port, nil
		}
		if !orNext || !portTaken(err) {
			break
		}
	}
	if portTaken(err) {
		return nil, false, fmt.Errorf("--port %d: the port is taken by another program; choose another with --port", port)
	}
	return nil, false, fmt.Errorf("--port %d: %w", port, err)
}

// loopback listens on 127.0.0.1 and, where that exists, on ::1.
func loopback(ctx context.Context, port int) ([]net.Listener, error) {
	var lc net.ListenConfig
	v4, err := lc.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	v6, err := lc.Listen(ctx, "tcp", net.JoinHostPort("::1", strconv.Itoa(portOf(v4))))
	switch {
	case err == nil:
		return []net.Listener{v4, v6}, nil
	case portTaken(err) && port != 0:
		v4.Close()
		return nil, err
	}
	return []net.Listener{v4}, nil // no IPv6 here
}

func portOf(ln net.Listener) int {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}
