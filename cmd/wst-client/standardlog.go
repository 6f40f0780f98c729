package main

import (
	"log"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// routeStandardLog sends lines of the standard library's log package to l, for
// packages that do not know l.
func routeStandardLog(l zerolog.Logger) {
	log.SetFlags(0)
	log.SetOutput(standardLog{l})
}

type standardLog struct{ log zerolog.Logger }

func (w standardLog) Write(p []byte) (int, error) {
	w.log.Warn().Str("from", "log").Msg(redact.Text(string(p)))
	return len(p), nil
}
