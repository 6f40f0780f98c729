package server

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimited is how many keys a limiter remembers.
const maxLimited = 10000

// limiter is a token bucket for each key. When it remembers too many keys it
// forgets those whose buckets have filled up again, and if that does not help
// much, all: a limiter must not be what takes the service down.
type limiter[K comparable] struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[K]*rate.Limiter
}

func newLimiter[K comparable](perSecond float64, burst int) *limiter[K] {
	return &limiter[K]{limit: rate.Limit(perSecond), burst: burst, buckets: make(map[K]*rate.Limiter)}
}

// allow takes one token of key's bucket. If there is none it returns false
// and how long one takes to come.
func (l *limiter[K]) allow(key K) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxLimited {
			l.forgetLocked()
		}
		b = rate.NewLimiter(l.limit, l.burst)
		l.buckets[key] = b
	}
	if b.Allow() {
		return 0, true
	}
	return time.Duration(float64(time.Second) / float64(l.limit)), false
}

func (l *limiter[K]) forgetLocked() {
	for k, b := range l.buckets {
		if b.Tokens() >= float64(l.burst) {
			delete(l.buckets, k)
		}
	}
	// Not only when none could be forgotten: looking at all of them for each
	// new key would be work that an attacker can order.
	if len(l.buckets) > maxLimited*3/4 {
		clear(l.buckets)
	}
}

// addrKey is the address that a limit is kept for.
type addrKey = netip.Addr

// addrLimiter is a limiter for addresses. IPv6 addresses count by their /64,
// which is what one subscriber has.
type addrLimiter struct{ limiter *limiter[addrKey] }

func newAddrLimiter(perSecond float64, burst int) *addrLimiter {
	return &addrLimiter{newLimiter[addrKey](perSecond, burst)}
}

// allow is that of the limiter.
func (l *addrLimiter) allow(addr addrKey) (wait time.Duration, ok bool) {
	return l.limiter.allow(subscriber(addr))
}
