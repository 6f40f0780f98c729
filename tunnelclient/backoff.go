package tunnelclient

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	retryFirst = time.Second
	retryMax   = 30 * time.Second
	// retryLived is how long a session must have lived to start the curve of
	// retries again.
	retryLived = 10 * time.Second

	// retryBrief is how long a session must have lived to bound the waits after it:
	// for retryLived they are no longer than it was. A tunnel whose services are killed
	// one after the other is up most of the time then; and the clients of one that
	// breaks down under them come back over as much time as it stood.
	retryBrief = 2 * time.Second

	// movedLived is the same for sessions that follow changes of the network.
	// It is above retryMax for the sake of networks that come and go.
	movedLived = time.Minute

	// shortOutage is how long a tunnel is down before the bound of a wait grows
	// beyond shortOutageWait: a service that restarts within that time has its
	// tunnels back that soon.
	shortOutage     = 3 * time.Second
	shortOutageWait = 2 * time.Second

	replacedFirst = 5 * time.Second
	replacedMax   = time.Minute
	// replacedLived is the same for the curve of replaced sessions. It is far
	// above replacedMax: two clients of one id that replace each other in
	// turn let each other live that long.
	replacedLived = 10 * time.Minute

	// retryAfterMax bounds what a Retry-After header can ask for.
	retryAfterMax = time.Hour
)

// backoff is a curve of random waits under a doubling bound.
type backoff struct {
	first, max time.Duration
	floor      bool // wait at least half the bound
	jitter     func(bound time.Duration) time.Duration

	bound time.Duration // of the next wait; zero: first
}

// next returns the next wait: uniform between zero, or half the bound, and
// the bound.
func (b *backoff) next() time.Duration { return b.nextWithin(b.max) }

// nextWithin is next with a bound of at most limit. The curve does not rise
// while it is above that.
func (b *backoff) nextWithin(limit time.Duration) time.Duration {
	if b.bound == 0 {
		b.bound = b.first
	}
	bound := min(b.bound, limit)
	if b.bound <= limit {
		b.bound = min(2*b.bound, b.max)
	}
	if b.floor {
		return bound/2 + b.jitter(bound/2)
	}
	return b.jitter(bound)
}

func (b *backoff) reset() { b.bound = 0 }

// fresh reports whether next has not been called since the last reset.
func (b *backoff) fresh() bool { return b.bound == 0 }

// sleep waits for d and reports whether ctx is still alive then.
func sleep(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// parseRetryAfter returns the delay that a Retry-After header asks for, in
// either of its forms, or zero. A date is taken relative to the Date header
// of the same answer if there is one, because the clock here may be wrong.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	switch n, err := strconv.ParseUint(v, 10, 32); {
	case err == nil:
		return min(time.Duration(n)*time.Second, retryAfterMax)
	case errors.Is(err, strconv.ErrRange):
		return retryAfterMax
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), retryAfterMax)
}
