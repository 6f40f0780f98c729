package server

import "golang.org/x/time/rate"

const (
	// handshakeRate and handshakeBurst bound registrations per second. 10,000
	// tunnels that come back at once are to be in within half a minute.
	handshakeRate  = 1000
	handshakeBurst = 2000

	// tunnelHandshakeRate and tunnelHandshakeBurst bound those of one tunnel
	// while half of handshakeBurst is in use.
	tunnelHandshakeRate  = 1
	tunnelHandshakeBurst = 5
)

// handshakeLimit bounds registrations per second: those of all tunnels, and,
// while there are many, those of each. Otherwise anyone with a token for one
// tunnel could use up what all others need to come back. While there are few, a
// tunnel may replace its session as often as it likes.
type handshakeLimit struct {
	all  *rate.Limiter
	each *keyLimiter[label]
}

func newHandshakeLimit() *handshakeLimit {
	return &handshakeLimit{
		all:  rate.NewLimiter(handshakeRate, handshakeBurst),
		each: newKeyLimiter[label](tunnelHandshakeRate, tunnelHandshakeBurst),
	}
}

// allow reports whether l may register now.
func (h *handshakeLimit) allow(l label) bool {
	if h.all.Tokens() < handshakeBurst/2 {
		if _, ok := h.each.allow(l); !ok {
			return false
		}
	}
	return h.all.Allow()
}
