package tunnelclient

import (
	"bytes"
	"log"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// errorLog returns a standard logger for code that knows no other, such as
// net/http's and x/net's. Its lines are about single requests or broken
// connections and go to debug, but a handler that panicked is an error.
func errorLog(l zerolog.Logger) *log.Logger {
	return log.New(lineWriter{fewer(l)}, "", 0)
}

// fewer returns l with at most ten lines a second, for lines that viewers or the
// service can cause: they must not fill a disk.
func fewer(l zerolog.Logger) zerolog.Logger {
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
