package cliapp

import (
	"os"

	"github.com/rs/zerolog"
)

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
