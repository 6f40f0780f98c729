package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/admin"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/server"
)

// running is the service with what may change while it runs.
type running struct {
	// Static after construction.
	read   func() (config, error)
	srv    *server.Server
	access *accessLog
	admin  *admin.Admin // nil if there is none
	log    zerolog.Logger

	mu     sync.Mutex // also for config.certificate
	config config     // what is in force
}

// follow looks at the files of the certificate now and then, and reloads at a
// hangup, until ctx ends.
func (r *running) follow(ctx context.Context, hangups <-chan os.Signal) {
	tick := time.NewTicker(certificatePoll)
	defer tick.Stop()
	poll := tick.C
	if r.config.certificate == nil {
		poll = nil
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll:
			r.pollCertificate()
		case <-hangups:
			r.reload()
		}
	}
}

func (r *running) pollCertificate() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config.certificate.followsFiles() {
		r.config.certificate.poll(r.log)
	}
}

// drainTime returns how long a shutdown may take.
func (r *running) drainTime() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	drain := r.config.server.DrainTimeout
	if drain == 0 {
		drain = defaultDrain
	}
	return max(drain, 0) + max(r.config.server.DrainDelay, 0)
}

// reload reads the configuration again and puts in force what can change. It also
// opens the file of the access log again. If there are faults it changes nothing
// else, and returns them.
func (r *running) reload() (done admin.Reloaded, faults []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.access.reopen(r.log)
	next, err := r.read()
	if err == nil {
		done, err = r.apply(next)
	}
	if err != nil {
		faults = []string{err.Error()}
		var all *cliapp.UsageError
		if errors.As(err, &all) {
			faults = all.Lines
		}
		r.log.Error().Str(logevent.Field, logevent.Reload).Strs("faults", faults).Msg("the configuration has faults: it stays as it was")
		return done, faults
	}
	for _, w := range next.warnings {
		if !slices.Contains(r.config.warnings, w) {
			r.log.Warn().Msg(w)
		}
	}
	r.config.warnings = next.warnings
	level, text := zerolog.InfoLevel, "read the configuration again"
	if len(done.Restart) > 0 {
		level, text = zerolog.WarnLevel, "read the configuration again; some settings need a restart"
	}
	r.log.WithLevel(level).Str(logevent.Field, logevent.Reload).Strs("changed", done.Changed).Strs("restart", done.Restart).Msg(text)
	return done, nil
}

// apply puts in force what can change of next.
func (r *running) apply(next config) (admin.Reloaded, error) {
	done := admin.Reloaded{Changed: []string{}, Restart: []string{}}
	now := &r.config
	cfg := next.server
	cfg.PublicURL, cfg.Cluster = now.server.PublicURL, now.server.Cluster
	if cfg.TLSConfig != nil && now.server.TLSConfig != nil {
		cfg.TLSConfig = now.server.TLSConfig
	}
	if _, err := r.srv.Reconfigure(cfg); err != nil {
		return done, err
	}
	now.server.DrainTimeout, now.server.DrainDelay = cfg.DrainTimeout, cfg.DrainDelay

	otherPair := false
	if now.certificate != nil && next.certificate != nil {
		otherPair = now.certificate.adopt(next.certificate, r.log)
	}
	zerolog.SetGlobalLevel(next.logLevel)
	// The listener stays where it is. What was enough for another address may be
	// too little for this one, and so is no token in place of one.
	sameGate := now.values["ADMIN_ADDR"] == next.values["ADMIN_ADDR"] && (next.admin.token != "" || now.admin.token == "")
	if r.admin != nil && sameGate {
		now.admin.token, now.admin.hosts = next.admin.token, next.admin.hosts
		r.admin.SetAccess(next.admin.token, slices.Clone(next.admin.hosts))
	}

	next.showDefaults(now.clustered())
	settings := slices.Clone(now.admin.settings) // the listener reads the other
	for i, v := range variables {
		changed, live := now.values[v.name] != next.values[v.name], v.live
		switch v.name {
		case "TLS_CERTIFICATE", "TLS_KEY":
			if live = (now.certificate == nil) == (next.certificate == nil); live && now.certificate != nil {
				changed = changed && otherPair // the poll may have been faster
			}
		case "ADMIN_TOKEN", "ADMIN_HOSTS":
			live = sameGate
		}
		switch {
		case !changed && !live:
		case live:
			now.values[v.name] = next.values[v.name]
			settings[i] = next.admin.settings[i]
			if changed {
				done.Changed = append(done.Changed, v.name)
			}
		default:
			done.Restart = append(done.Restart, v.name)
		}
	}
	now.admin.settings = settings
	if r.admin != nil {
		r.admin.SetSettings(settings)
	}
	return done, nil
}
