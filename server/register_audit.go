package server

import (
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
)

// How many audit lines are written. More are only counted.
const (
	// About callers without a good token: for each address, and all together.
	strangerLines, strangerBurst = 1, 60
	crowdLines, crowdBurst       = 20, 200

	// sumInterval is the time between sums of lines that were left out.
	sumInterval = 10 * time.Second
)

// maxReason bounds the reasons in the log, in characters: some quote the caller.
const maxReason = 300

// audit decides which audit lines are written, so that nobody can flood the
// log, and sums up the rest.
type audit struct {
	// Static after construction.
	log       zerolog.Logger
	strangers addrLimiter
	crowd     *rate.Limiter
	tunnels   *lineLimits // for callers with a good token

	mu     sync.Mutex
	closed bool
	left   map[string]int // lines left out since the last sum, by kind
	timer  *time.Timer    // runs sum; nil if nothing has been left out
}

func newAudit(log zerolog.Logger, tunnels *lineLimits) *audit {
	return &audit{
		log:       log,
		strangers: newAddrLimiter(strangerLines, strangerBurst),
		crowd:     rate.NewLimiter(crowdLines, crowdBurst),
		tunnels:   tunnels,
		left:      make(map[string]int),
	}
}

// stranger reports whether a line of this kind may be written about a caller
// at addr without a valid token. If not, it is counted.
func (a *audit) stranger(addr addrKey, kind string) bool {
	// The address first: one that is loud takes nothing from the others.
	if _, ok := a.strangers.allow(addr); ok && a.crowd.Allow() {
		return true
	}
	a.leave(kind)
	return false
}

// holder is stranger for a caller with a valid token for id: all lines about a
// tunnel are under one limit. The logger that it returns for the line adds to log
// how many lines have been left out before.
func (a *audit) holder(log zerolog.Logger, id, kind string) (zerolog.Logger, bool) {
	suppressed, ok := a.tunnels.of(labelOf(id)).take(time.Now(), linesPerSecond-1)
	switch {
	case !ok:
		a.leave(kind)
	case suppressed > 0:
		log = log.With().Int64(suppressedField, suppressed).Logger()
	}
	return log, ok
}

func (a *audit) leave(kind string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left[kind]++
	if a.timer == nil && !a.closed {
		a.timer = time.AfterFunc(sumInterval, a.sum)
	}
}

// sum writes how many lines of which kinds have been left out.
func (a *audit) sum() {
	a.mu.Lock()
	left := a.left
	a.left, a.timer = make(map[string]int), nil
	a.mu.Unlock()
	if len(left) == 0 {
		return
	}
	lines, total := zerolog.Dict(), 0
	for kind, n := range left {
		lines.Int(kind, n)
		total += n
	}
	a.log.Warn().Str(logevent.Field, logevent.Suppressed).Int("count", total).Dict("lines", lines).
		Msg("too many registrations and refusals to log each")
}

// close writes what has not been summed up yet.
func (a *audit) close() {
	a.mu.Lock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	a.sum()
}

// refusedKind is the kind of a refusal with this status, for sums.
func refusedKind(status int) string { return fmt.Sprintf("%s_%d", logevent.Refused, status) }

// MarshalZerologObject adds the times of a valid token, and never the token, to
// an audit line. Without one it adds nothing.
func (g grant) MarshalZerologObject(e *zerolog.Event) {
	if g.id != "" {
		e.Int64("token_iat", g.issued).Int64("token_exp", g.expires.Unix())
	}
}
