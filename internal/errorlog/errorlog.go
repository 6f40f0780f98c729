// Package errorlog logs what viewers or a service can cause in any number, without
// filling a disk.
package errorlog

import (
	"bytes"
	"log"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// New returns a standard logger for code that knows no other, such as
// net/http's and x/net's. Its lines are about single requests or broken
// connections and go to debug, but a handler that panicked is an error.
func New(l zerolog.Logger) *log.Logger {
	return log.New(lineWriter{Bounded(l)}, "", 0)
}

// Bounded returns l with at most ten lines a second.
func Bounded(l zerolog.Logger) zerolog.Logger {
	return l.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Second})
}

type lineWriter struct{ log zerolog.Logger }

func (w lineWriter) Write(p []byte) (int, error) {
	level := zerolog.DebugLevel
	if bytes.Contains(p, []byte("panic serving")) {
		level = zerolog.ErrorLevel
	}
	w.log.WithLevel(level).Msg(redact.Text(string(p)))
	return len(p), nil
}
