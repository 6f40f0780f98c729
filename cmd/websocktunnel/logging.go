package main

import (
	"io"
	"log"
	"os"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/server"
)

// openLog returns the logger that c asks for, which never blocks, a function that
// returns how many lines have been lost, and one that waits until what was logged
// has been written and sent, for a moment. It
// also routes the standard library's log package into it.
func openLog(c config) (logger zerolog.Logger, dropped func() uint64, closeLog func()) {
	cliapp.SetLogTime()
	out, queue := cliapp.LogTo(os.Stdout, c.production)
	dropped = queue.Dropped
	closeLog = func() { queue.Close(cliapp.FlushTimeout) }
	if c.production && c.syslogAddr != "" {
		local := newLogger(out)
		sl := newSyslog(c.syslogAddr, func(err error) {
			local.Warn().Err(err).Msg("log lines are not reaching the syslog server")
		})
		out = zerolog.MultiLevelWriter(out, sl)
		dropped = func() uint64 { return queue.Dropped() + sl.queue.Dropped() }
		closeLog = func() {
			sl.close() // it may have something to say
			queue.Close(cliapp.FlushTimeout)
		}
	}
	logger = newLogger(out)
	// x/net/http2 writes about tunnel clients to the standard logger only.
	log.SetFlags(0)
	log.SetOutput(server.NewErrorLog(logger).Writer())
	return logger, dropped, closeLog
}

func newLogger(out io.Writer) zerolog.Logger {
	return zerolog.New(out).Level(zerolog.InfoLevel).With().Timestamp().Logger()
}
