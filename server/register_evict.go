package server

import (
	"crypto/sha256"
	"errors"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
)

var errEvicted = errors.New("token was in force when an operator evicted the tunnel, or is older than that one")

// evictions are the tokens that operators have thrown out, by client id. The
// registry has them, under its lock.
type evictions struct {
	blocked map[string]*eviction
	lifted  map[string]time.Time // when an operator has unblocked an id, so that no other node brings its block back
}

// eviction blocks the tokens of one id that are not newer than the newest one
// that was evicted.
type eviction struct {
	issued int64                      // that one's iat: older tokens are blocked, …
	tokens map[[sha256.Size]byte]bool // … and these, of the same second, by fingerprint
	until  time.Time                  // when all that were evicted have expired
	at     time.Time                  // when the last of them was
}

// block refuses g's token, and all that are older, until it expires.
func (e *evictions) block(g grant, now time.Time) {
	for id, old := range e.blocked {
		if !now.Before(old.until) {
			delete(e.blocked, id)
		}
	}
	if e.blocked == nil {
		e.blocked = make(map[string]*eviction)
	}
	b := e.blocked[g.id]
	if b == nil {
		b = &eviction{}
		e.blocked[g.id] = b
	}
	if b.tokens == nil || g.issued > b.issued {
		b.issued, b.tokens = g.issued, make(map[[sha256.Size]byte]bool)
	}
	b.tokens[g.fingerprint] = true
	b.at = now
	if until := g.expires.Add(tokenLeeway); until.After(b.until) {
		b.until = until
	}
}

// check returns errEvicted if g's token is blocked.
func (e *evictions) check(g grant, now time.Time) error {
	b := e.blocked[g.id]
	switch {
	case b == nil:
		return nil
	case !now.Before(b.until):
		delete(e.blocked, g.id)
		return nil
	case g.issued < b.issued || b.tokens[g.fingerprint]:
		return errEvicted
	}
	return nil
}

// lift unblocks the tokens of id, and reports whether any were blocked.
func (e *evictions) lift(id string, now time.Time) bool {
	if e.lifted == nil {
		e.lifted = make(map[string]time.Time)
	}
	for other, at := range e.lifted {
		if len(e.lifted) > maxLifted || now.Sub(at) > liftedMemory {
			delete(e.lifted, other)
		}
	}
	e.lifted[id] = now
	_, ok := e.blocked[id]
	delete(e.blocked, id)
	return ok
}

// What has been unblocked is remembered for a while, in case a node comes back that has
// not heard it.
const (
	maxLifted    = 1000
	liftedMemory = 24 * time.Hour
)

// ids returns those that are blocked now.
func (e *evictions) ids(now time.Time) []string {
	var list []string
	for id, b := range e.blocked {
		if now.Before(b.until) {
			list = append(list, id)
		}
	}
	return list
}

// Evict ends the tunnel with this id at once, with close code 4003. Its token,
// and every older one for the id, is refused from now on, until it expires or
// Unblock is called; a newer token is a new chance. This process alone knows of
// it: a restart forgets. In a cluster all nodes know, and it does not matter which of
// them has the tunnel. Evict reports whether there was such a tunnel.
func (s *Server) Evict(id string) bool {
	here, away := s.registry.evict(labelOf(id), s.cfg.now())
	found := here || away
	if found {
		s.cluster.shareEvictions()
	}
	if !here && s.cluster.evictElsewhere(id) { // where it may have gone to, with a newer token
		found = true
	}
	if found {
		s.log.Warn().Str(logevent.Field, logevent.Evicted).Str("id", id).Msg("tunnel evicted by an operator")
	}
	return found
}

// Unblock lets the tokens of an evicted tunnel in again. It reports whether
// any were blocked.
func (s *Server) Unblock(id string) bool {
	lifted := s.registry.unblock(id, s.cfg.now())
	s.cluster.shareEvictions()
	if lifted {
		s.log.Info().Str(logevent.Field, logevent.Unblocked).Str("id", id).Msg("evicted tunnel unblocked")
	}
	return lifted
}
