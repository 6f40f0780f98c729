package main

import (
	"context"
	"errors"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/gcpace"
	"github.com/websocktunnel/websocktunnel/cmd/internal/processors"
	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/internal/budget"
	"github.com/websocktunnel/websocktunnel/internal/buildinfo"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
	"github.com/websocktunnel/websocktunnel/server"
)

// shutdownMargin is how much longer than the drain timeout a shutdown may take
// before it is cut short: for requests that no tunnel carries.
const shutdownMargin = 10 * time.Second

// defaultDrain is the default of server.Config.DrainTimeout.
const defaultDrain = 60 * time.Second

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:      "serve",
		Usage:     "run the service",
		UsageText: "websocktunnel [serve] [flags]",
		Description: "Every setting is an environment variable, a flag, and a line of the\n" +
			"configuration file (--config). The flag overrides the variable, and the\n" +
			"variable overrides the file. Secrets and keys can also come from files of\n" +
			"their own: add _FILE to the name of the variable.\n" +
			"\n" +
			"Example, on one machine, with tunnels at http://<id>.localhost:8080/:\n" +
			"   websocktunnel --url-prefix http://127.0.0.1:8080 --port 8080 \\\n" +
			"       --viewer-domain localhost --taskcluster-proxy-secret-a-file secret\n" +
			"\n" +
			"On SIGINT or SIGTERM, the service finishes requests in flight for up to\n" +
			"DRAIN_TIMEOUT and exits with status 0. A second signal stops it at once, with\n" +
			"status 1. Configuration errors: status 2.\n" +
			"\n" +
			"On SIGHUP, the service reads the configuration file and the files of secrets\n" +
			"and certificates again, and opens the file of the access log again. It logs\n" +
			"what has changed, and what needs a restart.",
		Flags: append(checkFlags(), variableFlags()...),
		Action: func(_ context.Context, cmd *cli.Command) error {
			if err := noArguments(cmd); err != nil {
				return err
			}
			if cmd.Bool("json") && !cmd.Bool("check") {
				return cliapp.NewUsageError("flag --json has a meaning only with --check; for a log in JSON, use --log-format json")
			}
			read := func() (config, error) { return readConfig(readInput(cmd)) }
			in := readInput(cmd)
			in.starting = true
			c, err := readConfig(in)
			if cmd.Bool("check") {
				err = tryCluster(&c, err)
				return check(cmd.Root().Writer, cmd.Bool("json"), c, err)
			}
			if err != nil {
				return err
			}
			return serve(c, read)
		},
	}
}

// idleTunnel is how much of the heap an idle tunnel holds.
const idleTunnel = 13 << 10

// serve runs the service until a signal ends it. read reads the configuration again.
func serve(c config, read func() (config, error)) error {
	cliapp.SurviveReaders()
	hangups, stopHangups := cliapp.Hangups()
	defer stopHangups()
	signals, stopSignals := cliapp.StopSignals()
	defer stopSignals()

	listeners, port, err := listen(c)
	if err != nil {
		return err
	}
	clusterListener, directory, err := c.listenCluster()
	if err != nil {
		closeAll(listeners)
		return err
	}
	if clusterListener != nil {
		defer directory.Close()
		defer clusterListener.Close()
	}
	adminListener, err := listenAdmin(c)
	if err != nil {
		closeAll(listeners)
		return err
	}
	c.limitRuntime()
	out := openLog(c)
	defer out.close()
	log := out.Logger
	c.server.Logger = log
	access, err := openAccessLog(c, out.lines)
	if err != nil {
		closeAll(listeners)
		return err
	}
	defer access.close()
	if access != nil {
		c.server.RequestDone = access.done
	}
	dropped := func() uint64 { return out.dropped() + access.dropped() }
	var metrics http.Handler
	if adminListener != nil {
		defer adminListener.Close()
		if c.server.Metrics, metrics, err = newRegistry(c, dropped); err != nil {
			closeAll(listeners)
			return err
		}
	}
	tracer, err := startTracing(&c, log)
	if err != nil {
		closeAll(listeners)
		return err
	}
	c.server.PublicURL = c.publicURL(port)
	var forNodes atomic.Pointer[admin.Admin]
	if c.clustered() {
		c.server.Cluster.Admin = adminOfNode(&forNodes)
	}
	srv, err := server.New(c.server)
	if err != nil {
		closeAll(listeners)
		return err
	}
	defer gcpace.Start(budget.Available(), func() int64 { return idleTunnel * int64(srv.TunnelsUp()) })()
	defer processors.Start()()
	netconn.AllowRaw(true)
	for _, w := range c.warnings {
		log.Warn().Msg(w)
	}
	for _, ln := range listeners {
		log.Info().Str("url", c.server.PublicURL).Stringer("listen", ln.Addr()).Bool("tls", c.server.TLSConfig != nil).
			Str("version", buildinfo.Get().Version).Msg("serving")
	}

	var serving sync.WaitGroup
	failed := make(chan error, len(listeners)+2)
	drain := make(chan struct{}, 1) // an operator has asked for it
	run := &running{read: read, srv: srv, access: access, log: log, config: c}
	var adm *admin.Admin // nil if there is none
	if adminListener != nil {
		adm = newAdmin(c, srv, metrics, func() {
			select {
			case drain <- struct{}{}:
			default:
			}
		}, run.reload, log)
		run.admin = adm
		forNodes.Store(adm)
		serving.Go(func() {
			if err := adm.Serve(adminListener); err != nil {
				failed <- err
			}
		})
		log.Info().Stringer("listen", adminListener.Addr()).Bool("token", c.admin.token != "").Msg("admin listener")
	}
	watching, stopWatching := context.WithCancel(context.Background())
	defer stopWatching()
	serving.Go(func() { run.follow(watching, hangups) })
	if clusterListener != nil {
		log.Info().Stringer("listen", clusterListener.Addr()).Str("advertise", c.server.Cluster.Addr).Msg("cluster listener")
		serving.Go(func() {
			if err := srv.ServeCluster(clusterListener); !errors.Is(err, server.ErrServerClosed) {
				failed <- err
			}
		})
	}
	for _, ln := range listeners {
		serving.Go(func() {
			if err := srv.Serve(ln); !errors.Is(err, server.ErrServerClosed) {
				failed <- err
			}
		})
	}
	select {
	case sig := <-signals:
		log.Info().Stringer("signal", sig).Msg("stopping; a second signal stops at once")
		err = shutdown(srv, run.drainTime(), signals, log)
	case <-drain:
		log.Info().Msg("stopping, as an operator has asked; a signal stops at once")
		err = shutdown(srv, run.drainTime(), signals, log)
	case err = <-failed:
		log.Error().Err(err).Msg("the service failed")
		err = cli.Exit("", cliapp.ExitFailure)
		srv.Close()
	}
	stopWatching()
	if adm != nil {
		adm.Close()
	}
	serving.Wait()
	if err == nil { // otherwise there is no time left
		tracer.Close()
		log.Info().Msg("stopped")
	}
	return err
}

// shutdown drains srv for that time at most, or closes it at once when another signal
// comes.
func shutdown(srv *server.Server, drain time.Duration, signals <-chan os.Signal, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain+shutdownMargin)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- srv.Shutdown(ctx) }()
	select {
	case err := <-drained:
		if err == nil {
			return nil
		}
		log.Warn().Err(err).Msg("the drain timeout passed; requests in flight were cut off")
	case sig := <-signals:
		log.Warn().Stringer("signal", sig).Msg("stopping at once; requests in flight are cut off")
		srv.Close()
		cancel()
		if err := <-drained; err != nil {
			log.Debug().Err(err).Msg("the drain was interrupted")
		}
	}
	return cli.Exit("", cliapp.ExitFailure)
}
