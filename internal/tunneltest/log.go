package tunneltest

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// NewLogger returns a logger that writes to t with go test -v, and otherwise
// nowhere. A fuzz target's F takes no lines while the target runs.
func NewLogger(t testing.TB) zerolog.Logger {
	if _, fuzzing := t.(*testing.F); fuzzing || !testing.Verbose() {
		return zerolog.Nop()
	}
	return zerolog.New(zerolog.NewTestWriter(t))
}

// Log is a writer that keeps everything, line by line. The zero value is
// empty and ready for use. Any goroutine may call its methods.
type Log struct {
	mu      sync.Mutex
	lines   []Line
	rest    []byte        // the line that has not ended
	changed chan struct{} // closed with the next line; nil if nobody waits
}

// Line is a line of a [Log].
type Line struct {
	Text   string
	At     time.Time // when its end was written
	Index  int       // how many lines were before it
	Groups []string  // from [Log.Next]: as FindStringSubmatch returns
}

// Write implements [io.Writer].
func (l *Log) Write(p []byte) (int, error) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		text, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.lines = append(l.lines, Line{Text: string(text), At: now, Index: len(l.lines)})
		l.rest = rest
		if l.changed != nil {
			close(l.changed)
			l.changed = nil
		}
	}
}

// Lines returns the lines that have ended, without their ends. The caller must
// not change them.
func (l *Log) Lines() []Line {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines[:len(l.lines):len(l.lines)]
}

// String returns all that has been written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, line := range l.lines {
		b.WriteString(line.Text)
		b.WriteByte('\n')
	}
	b.Write(l.rest)
	return b.String()
}

// Contains reports whether text is in a line that has ended.
func (l *Log) Contains(text string) bool {
	for _, line := range l.Lines() {
		if strings.Contains(line.Text, text) {
			return true
		}
	}
	return false
}

// Next returns the first line that matches, of those with the given index or a
// later one. It waits for that until ctx ends, and then returns the cause.
func (l *Log) Next(ctx context.Context, index int, re *regexp.Regexp) (Line, error) {
	for {
		over := ctx.Err() != nil // lines that came before that count
		l.mu.Lock()
		lines := l.lines
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		for ; index < len(lines); index++ {
			line := lines[index]
			if line.Groups = re.FindStringSubmatch(line.Text); line.Groups != nil {
				return line, nil
			}
		}
		if over {
			return Line{}, context.Cause(ctx)
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
