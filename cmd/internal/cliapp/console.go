package cliapp

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// Console returns a writer that makes lines for people of zerolog's JSON, in
// colour if f is a terminal and NO_COLOR is not set.
func Console(f *os.File) io.Writer {
	return zerolog.ConsoleWriter{Out: f, NoColor: !IsTerminal(f), TimeFormat: time.DateTime}
}

// IsTerminal reports whether f is a terminal, or another device for
// characters than the null device, on which nobody minds colours.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// SetLogTime makes zerolog write times with milliseconds.
func SetLogTime() { zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" }
