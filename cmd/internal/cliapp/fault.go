package cliapp

import (
	"fmt"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

// Faults collects the faults of a command line and its environment, so that the
// command reports all of them at once. The zero value is ready to use.
type Faults struct{ lines []string }

// Add notes one fault: the name of the setting, the rule that it breaks, and what
// to do. It must not hold a secret.
func (f *Faults) Add(format string, args ...any) {
	f.lines = append(f.lines, oneLine(fmt.Sprintf(format, args...)))
}

// AddConfig notes the faults in err, the error of a New or Validate of this
// project's packages. name returns the user's name for a field, or "" to leave a
// fault out because it is noted already.
func (f *Faults) AddConfig(err error, name func(field string) string) {
	all := configerror.All(err)
	if err != nil && len(all) == 0 {
		f.Add("%v", err)
	}
	for _, e := range all {
		if label := name(e.Field); label != "" {
			f.Add("%s %s", label, e.Reason())
		}
	}
}

// Err returns a [*UsageError] with all faults, or nil if there are none.
func (f *Faults) Err() error {
	if len(f.lines) == 0 {
		return nil
	}
	return &UsageError{Lines: f.lines}
}

// UsageError reports faults of the command line or configuration. It ends the
// command with [ExitUsage].
type UsageError struct {
	Lines []string // one per fault
}

// NewUsageError returns a UsageError with one line.
func NewUsageError(format string, args ...any) *UsageError {
	return &UsageError{Lines: []string{oneLine(fmt.Sprintf(format, args...))}}
}

// Error returns the lines.
func (e *UsageError) Error() string { return strings.Join(e.Lines, "\n") }

// oneLine keeps the promise of one line per fault for errors of other packages.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
