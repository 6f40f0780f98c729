package main

import (
	"io"
	"log"
	"os"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/server"
)

// logs are where the service writes what happens. Nothing of them blocks.
type logs struct {
	zerolog.Logger
	lines   io.Writer     // standard output, for whole lines
	dropped func() uint64 // how many lines have been lost
	close   func()        // waits until all has been written and sent, for a moment
}

// openLog returns what c asks for. It also routes the standard library's log
// package into it.
func openLog(c config) logs {
	cliapp.SetLogTime()
	zerolog.SetGlobalLevel(c.logLevel) // one that can change while loggers are in use
	out, queue := cliapp.LogTo(os.Stdout, "websocktunnel", c.logFormat)
	l := logs{
		lines:   queue.Batch(),
		dropped: queue.Dropped,
		close:   func() { queue.Close(cliapp.FlushTimeout) },
	}
	if c.production && c.syslogAddr != "" {
		local := newLogger(out, c)
		sl := newSyslog(c.syslogAddr, func(err error) {
			local.Warn().Err(err).Msg("log lines are not reaching the syslog server")
		})
		out = zerolog.MultiLevelWriter(out, sl)
		l.dropped = func() uint64 { return queue.Dropped() + sl.queue.Dropped() }
		l.close = func() {
			sl.close() // it may have something to say
			queue.Close(cliapp.FlushTimeout)
		}
	}
	l.Logger = newLogger(out, c)
	// x/net/http2 writes about tunnel clients to the standard logger only.
	log.SetFlags(0)
	log.SetOutput(server.NewErrorLog(l.Logger).Writer())
	return l
}

// readLog reads the settings of the log, after readEnv.
func (c *config) readLog(s *settings) {
	formats := []string{string(cliapp.LogConsole), string(cliapp.LogJSON), string(cliapp.LogMozlog), string(cliapp.LogSyslog)}
	if c.logFormat = cliapp.LogJSON; !c.production {
		c.logFormat = cliapp.LogConsole
	}
	if s.isSet("LOG_FORMAT") {
		c.logFormat = cliapp.LogFormat(s.choice("LOG_FORMAT", formats...))
	}
	c.logLevel = zerolog.InfoLevel
	if s.isSet("LOG_LEVEL") {
		c.logLevel, _ = zerolog.ParseLevel(s.choice("LOG_LEVEL", cliapp.LogLevels()...))
	}
}

// newLogger returns what writes lines to out. Those of one of several nodes have its
// name.
func newLogger(out io.Writer, c config) zerolog.Logger {
	log := zerolog.New(out).Level(zerolog.TraceLevel).With().Timestamp()
	if c.clustered() {
		log = log.Str("node", c.server.Cluster.Node)
	}
	return log.Logger()
}
