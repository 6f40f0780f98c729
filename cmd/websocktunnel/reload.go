package main

import (
	"context"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// follow keeps up to date what may change while the service runs, until ctx
// ends: it looks at the files of the certificate now and then, and reloads at a
// hangup.
func follow(ctx context.Context, c config, access *accessLog, hangups <-chan os.Signal, log zerolog.Logger) {
	var poll <-chan time.Time
	if c.certificate != nil && c.certificate.followsFiles() {
		tick := time.NewTicker(certificatePoll)
		defer tick.Stop()
		poll = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll:
			c.certificate.poll(log)
		case <-hangups:
			reload(c, access, log)
		}
	}
}

// reload is what SIGHUP asks for. All that is read again without a restart is
// read here.
func reload(c config, access *accessLog, log zerolog.Logger) {
	access.reopen(log)
	log.Info().Str("event", "reload").Msg("SIGHUP: reading the files of the TLS certificate again")
	if c.certificate == nil || !c.certificate.followsFiles() {
		log.Info().Str("event", "reload").Msg("there is no file of a TLS certificate to read")
		return
	}
	c.certificate.reload(log)
}
