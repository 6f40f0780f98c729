package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/accesslog"
	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/server"
)

// accessConfig is what the access log is made of.
type accessConfig struct {
	format string // ACCESS_LOG; "" means that there is none
	file   string // "" means with the log
	paths  bool
	sample float64
}

// readAccess reads the settings of the access log.
func (c *config) readAccess(s *settings) {
	c.access.format = s.text("ACCESS_LOG")
	c.access.file = s.text("ACCESS_LOG_FILE")
	c.access.paths = s.on("ACCESS_LOG_PATHS", false)
	c.access.sample = s.fraction("ACCESS_LOG_SAMPLE", 1)
	switch lower := strings.ToLower(c.access.format); {
	case lower == "" || lower == "off":
		c.access.format = ""
		for _, name := range []string{"ACCESS_LOG_FILE", "ACCESS_LOG_PATHS", "ACCESS_LOG_SAMPLE"} {
			if s.text(name) != "" {
				c.warn("%s has no effect without ACCESS_LOG", name)
			}
		}
		return
	case lower == accesslog.JSON || lower == accesslog.Combined:
		c.access.format = lower
	case !strings.Contains(lower, "{"):
		s.fault("ACCESS_LOG", "%q: it must be off, json, combined, or a template such as '{time} {id} {status}'", c.access.format)
	default:
		if _, err := accesslog.New(accesslog.Config{Format: c.access.format}); err != nil {
			s.fault("ACCESS_LOG", "%q: %v", c.access.format, err)
		}
	}
	if c.access.file != "" {
		if err := accesslog.CheckFile(c.access.file); err != nil {
			s.fault("ACCESS_LOG_FILE", "%q %v", c.access.file, err)
		}
	}
}

// fraction returns the value of a variable that must be a number from 0 to 1, or a
// percentage.
func (s *settings) fraction(name string, def float64) float64 {
	value := s.text(name)
	if value == "" {
		return def
	}
	number, percent := strings.CutSuffix(value, "%")
	f, err := strconv.ParseFloat(number, 64)
	if percent {
		f /= 100
	}
	if err != nil || !(f >= 0 && f <= 1) {
		s.fault(name, "%q: it must be a number from 0 to 1, or a percentage", value)
		return def
	}
	return f
}

// accessLog is a running access log.
type accessLog struct {
	done  func(*server.RequestInfo)
	file  *accesslog.File // nil: it goes with the log
	queue *logqueue.Queue // of file
}

// openAccessLog returns the access log that c asks for, or nil. log takes the lines
// where there is no file. It has to be closed.
func openAccessLog(c config, log io.Writer) (*accessLog, error) {
	if c.access.format == "" {
		return nil, nil
	}
	a := &accessLog{}
	if c.access.file != "" {
		var err error
		if a.file, err = accesslog.OpenFile(c.access.file); err != nil {
			return nil, fmt.Errorf("ACCESS_LOG_FILE %q %w", c.access.file, err)
		}
		var note func(uint64) []byte
		if c.access.format == accesslog.JSON {
			note = func(dropped uint64) []byte {
				var b bytes.Buffer
				cliapp.LogDropped(zerolog.New(&b), dropped)
				return b.Bytes()
			}
		}
		a.queue = logqueue.New(a.file, note)
		log = a.queue.Batch()
	}
	cfg := accesslog.Config{Format: c.access.format, Paths: c.access.paths, Sample: c.access.sample, Out: log}
	if c.clustered() {
		cfg.Node = c.server.Cluster.Node
	}
	l, err := accesslog.New(cfg)
	if err != nil {
		a.close()
		return nil, err
	}
	a.done = l.Done
	return a, nil
}

// dropped returns how many lines for its file have been lost.
func (a *accessLog) dropped() uint64 {
	if a == nil || a.queue == nil {
		return 0
	}
	return a.queue.Dropped()
}

// reopen goes on with the file that is at the path now.
func (a *accessLog) reopen(log zerolog.Logger) {
	if a == nil || a.file == nil {
		return
	}
	a.queue.Flush(cliapp.FlushTimeout) // what is over belongs into the old one
	if err := a.file.Reopen(); err != nil {
		log.Error().Str(logevent.Field, logevent.Reload).Err(err).Msg("the file of the access log stays open, wherever it is now")
		return
	}
	log.Info().Str(logevent.Field, logevent.Reload).Msg("opened the file of the access log again")
}

// close waits until what is queued has been written, for a moment.
func (a *accessLog) close() {
	if a != nil && a.file != nil {
		a.queue.Close(cliapp.FlushTimeout)
		a.file.Close()
	}
}
