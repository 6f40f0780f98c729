package server

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// linesPerSecond is how many lines about one tunnel go to the log within
	// any second, however its client behaves. The last is kept for the end of a
	// session. With the lines that its client can make others write, that is ten.
	linesPerSecond = 6

	// othersPerSecond is how many lines each of net/http and x/net/http2 may
	// write within any second.
	othersPerSecond = 2

	// suppressedField, on a line, is how many lines were left out before it.
	suppressedField = "suppressed_lines"

	// minSweep is how many limits there may be before idle ones are looked for
	// and forgotten.
	minSweep = 1000
)

// lineLimit bounds the log lines about one thing.
type lineLimit struct {
	mu         sync.Mutex
	written    [linesPerSecond]time.Time // of the last lines, a ring
	next       int                       // the oldest in it
	suppressed int64                     // and not logged yet
}

// allow reports whether one more line may be written now, of at most limit
// within a second, and how many were suppressed before it.
func (l *lineLimit) allow(now time.Time, limit int) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if suppressed, ok = l.takeLocked(now, limit); !ok {
		l.suppressed++
	}
	return suppressed, ok
}

// take is allow for a line that the caller counts if it is suppressed.
func (l *lineLimit) take(now time.Time, limit int) (suppressed int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeLocked(now, limit)
}

func (l *lineLimit) takeLocked(now time.Time, limit int) (suppressed int64, ok bool) {
	if at := l.written[(l.next+linesPerSecond-limit)%linesPerSecond]; !at.IsZero() && now.Sub(at) < time.Second {
		return 0, false
	}
	l.written[l.next] = now
	l.next = (l.next + 1) % linesPerSecond
	suppressed, l.suppressed = l.suppressed, 0
	return suppressed, true
}

// idle reports whether l can be forgotten.
func (l *lineLimit) idle(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.written[(l.next+linesPerSecond-1)%linesPerSecond]
	return now.Sub(last) >= time.Second && l.suppressed == 0
}

// limited returns log with what it writes bounded by l.
func (l *lineLimit) limited(log zerolog.Logger, limit int) zerolog.Logger {
	return log.Hook(lineHook{l, limit})
}

type lineHook struct {
	*lineLimit
	limit int
}

func (h lineHook) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	n, ok := h.allow(time.Now(), h.limit)
	switch {
	case !ok:
		e.Discard()
	case n > 0:
		e.Int64(suppressedField, n)
	}
}

// lineLimits are the limits of all tunnels. They outlive sessions: two clients
// that replace each other make lines too.
type lineLimits struct {
	mu    sync.Mutex
	all   map[label]*lineLimit
	sweep int // when so many are there, idle ones are forgotten
}

// of returns the limit of a tunnel.
func (l *lineLimits) of(tunnel label) *lineLimit {
	l.mu.Lock()
	defer l.mu.Unlock()
	limit := l.all[tunnel]
	if limit == nil {
		if len(l.all) >= max(l.sweep, minSweep) {
			now := time.Now()
			for k, v := range l.all {
				if v.idle(now) {
					delete(l.all, k)
				}
			}
			l.sweep = 2 * len(l.all)
		}
		if l.all == nil {
			l.all = make(map[label]*lineLimit)
		}
		limit = new(lineLimit)
		l.all[tunnel] = limit
	}
	return limit
}
