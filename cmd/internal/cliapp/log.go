package cliapp

import (
	"bytes"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/cmd/internal/logqueue"
	"github.com/websocktunnel/websocktunnel/internal/logevent"
)

// FlushTimeout is how long the last lines may take to go out before an exit.
const FlushTimeout = time.Second

// LogTo returns a writer for a [zerolog.Logger] of program that writes to f. Lines
// for people are in colour if f is a terminal and NO_COLOR is not set. It never
// blocks: queue does the writing, and must be closed before the program ends, with
// [FlushTimeout].
func LogTo(f *os.File, program string, form LogFormat) (w io.Writer, queue *logqueue.Queue) {
	// zerolog would write to standard error itself, and wait for it, about a
	// line that it could not write. The queue never fails.
	zerolog.ErrorHandler = func(error) {}
	format := func(out io.Writer) io.Writer { return form.formatTo(out, program, IsTerminal(f)) }
	queue = logqueue.New(f, func(dropped uint64) []byte {
		var b bytes.Buffer
		LogDropped(zerolog.New(format(&b)), dropped)
		return b.Bytes()
	})
	return format(queue), queue
}

// LogDropped logs that a log has lost lines: at any level, because the log is not
// whole without it.
func LogDropped(log zerolog.Logger, lines uint64) {
	log.Log().Str(zerolog.LevelFieldName, zerolog.LevelWarnValue).Timestamp().Str(logevent.Field, logevent.LogDropped).Uint64("dropped_lines", lines).Msg("log lines dropped")
}
