package server

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// addrKey is the address that a limit is kept for.
type addrKey = netip.Addr

// addrLimiter is a token bucket for each address. IPv6 addresses count by
// their /64, which is what one subscriber has.
type addrLimiter struct{ *keyLimiter[addrKey] }

func newAddrLimiter(perSecond float64, burst int) addrLimiter {
	return addrLimiter{newKeyLimiter[addrKey](perSecond, burst)}
}

// allow takes one token of addr's bucket. If there is none it returns false
// and how long one takes to come.
func (l addrLimiter) allow(addr addrKey) (wait time.Duration, ok bool) {
	return l.keyLimiter.allow(subscriber(addr))
}

// subscriber returns the address that limits count addr as: for IPv6 the /64,
// which is what one subscriber has.
func subscriber(addr netip.Addr) netip.Addr {
	if addr.Is6() && !addr.Is4In6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// maxLimited is how many keys a keyLimiter remembers.
const maxLimited = 10000

// keyLimiter is a token bucket for each key. When it remembers too many keys
// it forgets those whose buckets have filled up again, and if that does not
// help much, all: the limiter itself must not exhaust the service.
type keyLimiter[K comparable] struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	buckets map[K]*rate.Limiter
}

func newKeyLimiter[K comparable](perSecond float64, burst int) *keyLimiter[K] {
	return &keyLimiter[K]{limit: rate.Limit(perSecond), burst: burst, buckets: make(map[K]*rate.Limiter)}
}

// allow takes one token of k's bucket. If there is none it returns false and
// how long one takes to come.
func (l *keyLimiter[K]) allow(k K) (wait time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[k]
	if b == nil {
		if len(l.buckets) >= maxLimited {
			l.forgetLocked()
		}
		b = rate.NewLimiter(l.limit, l.burst)
		l.buckets[k] = b
	}
	if b.Allow() {
		return 0, true
	}
	return time.Duration(float64(time.Second) / float64(l.limit)), false
}

func (l *keyLimiter[K]) forgetLocked() {
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
