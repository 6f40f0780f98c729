package server

import (
	"encoding/json"
	"errors"

	"github.com/websocktunnel/websocktunnel/h2conn"
)

// An answer that breaks off at the node that has the tunnel breaks off on the link too: its
// stream is reset. HTTP/2 has no place there for the reason. So it goes ahead, as a control
// message of the link, which no viewer, tunnel client or target can send:
//
//	{"type":"broke","stream":17,"code":"WT-ANSWER-BROKE"}
//
// A later message about the same stream replaces an earlier one. A node that sends none is
// of an earlier version: then the target is the most likely reason.
type brokeMessage struct {
	Type   string    `json:"type"`
	Stream uint32    `json:"stream"`
	Code   errorCode `json:"code"`
}

const typeBroke = "broke"

// tellBroke tells the node that has sent the request why its answer is about to break off.
func (x *exchange) tellBroke(why *failure) {
	if x.hop == nil || x.hop.link == nil || x.hop.stream == 0 || why == failViewerLeft {
		return
	}
	b, err := json.Marshal(brokeMessage{typeBroke, x.hop.stream, why.code})
	if err == nil {
		_ = x.hop.link.SendControl(b) // without the connection nobody wants to know
	}
}

// onControl takes a control message of the other node.
func (l *link) onControl(b []byte) {
	var m brokeMessage
	if json.Unmarshal(b, &m) != nil || m.Type != typeBroke {
		return // of a later version
	}
	l.mu.Lock()
	a := l.attempts[m.Stream]
	l.mu.Unlock()
	if a == nil {
		return
	}
	if f, ok := hopFailures[m.Code]; ok {
		a.told.Store(f)
	}
}

// follow has a told why its answer, on stream, breaks off, until forget.
func (l *link) follow(stream uint32, a *attempt) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.attempts == nil {
		l.attempts = make(map[uint32]*attempt)
	}
	l.attempts[stream] = a
}

func (l *link) forget(stream uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attempts, stream)
}

// broke returns why the answer broke off, if err says that the other end of the carrier did
// that: the target, or what another node has told. If not, or if err says nothing of the
// kind, it returns nil.
func (a *attempt) broke(err error) *failure {
	if told := a.told.Load(); told != nil {
		return told
	}
	if a.via.transport().BrokenOff(err) {
		return failTargetBroke
	}
	if hop, ok := a.via.(*nodeHop); ok && hop.isLost() && !errors.Is(err, h2conn.ErrUnprocessed) {
		return failNodeLost
	}
	return nil
}

// isLost reports whether the connection to the other node is gone.
func (h *nodeHop) isLost() bool {
	select {
	case <-h.link.tr.Done():
		return true
	default:
		return false
	}
}
