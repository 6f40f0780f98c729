package server

import (
	"slices"
	"sync"
)

// maxReplaced is how many sessions of one tunnel may finish what they have at a
// time. Each holds a connection, which no other limit counts, and whoever has a
// token can make hundreds a second.
const maxReplaced = 64

// retiredSessions are the sessions of each tunnel that take no new requests and
// have not ended yet.
type retiredSessions struct {
	mu  sync.Mutex
	all map[label][]*session // the one longest retired first
}

// add notes that s has been retired, and cuts the one that has been for the
// longest if there are too many.
func (r *retiredSessions) add(s *session) {
	l := labelOf(s.id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[label][]*session)
	}
	list := append(r.all[l], s)
	if len(list) > maxReplaced {
		list[0].cut()
		list = slices.Delete(list, 0, 1)
	}
	r.all[l] = list
}

// remove notes that s has ended. It may have been cut.
func (r *retiredSessions) remove(s *session) {
	l := labelOf(s.id)
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.all[l]
	if i := slices.Index(list, s); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(r.all, l)
	} else {
		r.all[l] = list
	}
}
