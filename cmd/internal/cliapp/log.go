package cliapp

import (
	"bytes"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
)

// FlushTimeout is how long the last lines may take to go out before an exit.
const FlushTimeout = time.Second

// LogTo returns a writer for a [zerolog.Logger] that writes to f, as JSON or as
// lines for people, which are in colour if f is a terminal and NO_COLOR is not
// set. It never blocks: queue does the writing, and must be closed before the
// program ends, with [FlushTimeout].
func LogTo(f *os.File, json bool) (w io.Writer, queue *logqueue.Queue) {
	// zerolog would write to standard error itself, and wait for it, about a
	// line that it could not write. The queue never fails.
	zerolog.ErrorHandler = func(error) {}
	format := func(out io.Writer) io.Writer {
		if json {
			return out
		}
		return zerolog.ConsoleWriter{Out: out, NoColor: !IsTerminal(f), TimeFormat: time.DateTime}
	}
	queue = logqueue.New(f, func(dropped uint64) []byte {
		var b bytes.Buffer
		LogDropped(zerolog.New(format(&b)), dropped)
		return b.Bytes()
	})
	return format(queue), queue
}

// LogDropped logs that a log has lost lines.
func LogDropped(log zerolog.Logger, lines uint64) {
	log.Warn().Timestamp().Str("event", "log_dropped").Uint64("dropped_lines", lines).Msg("log lines dropped")
}
