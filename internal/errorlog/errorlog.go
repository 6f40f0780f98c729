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
	return log.New(NewWriter(l), "", 0)
}

// A Writer takes the lines of such a logger.
type Writer struct{ log zerolog.Logger }

// NewWriter returns the writer of [New]'s logger.
func NewWriter(l zerolog.Logger) *Writer { return &Writer{Bounded(l)} }

// Bounded returns l with at most ten lines a second.
func Bounded(l zerolog.Logger) zerolog.Logger {
	return l.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Second})
}

// Write writes one line.
func (w *Writer) Write(p []byte) (int, error) {
	w.WriteAbout(p, "")
	return len(p), nil
}

// WriteAbout writes one line about the request with this id; empty: about none.
func (w *Writer) WriteAbout(p []byte, requestID string) {
	level := zerolog.DebugLevel
	if bytes.Contains(p, []byte("panic serving")) {
		level = zerolog.ErrorLevel
	}
	e := w.log.WithLevel(level)
	if requestID != "" {
		e = e.Str("request_id", requestID)
	}
	e.Msg(redact.Text(string(p)))
}
