package redisdir

import (
	"slices"
	"time"
)

// Frames returns how many answers bytes are that come in pieces, or -1 if they are not
// within bounds.
func Frames(bytes string, piece int) int64 {
	var f framing
	for p := range slices.Chunk([]byte(bytes), piece) {
		if !f.follow(p) {
			return -1
		}
	}
	return f.messages
}

// SetHeartbeat sets how often a Watch of d sends itself a message.
func (d *Directory) SetHeartbeat(every time.Duration) { d.heartbeat = every }

// Location is what a URL says, for comparison.
func Location(url string) (mode string, secure bool, addrs []string, master string, db int, user, password string) {
	l, rule := splitURL(url)
	if rule != "" {
		return rule, false, nil, "", 0, "", ""
	}
	return string(l.kind), l.secure, l.addrs, l.master, l.db, l.user, l.password
}

// The format of values.
var (
	EntryValue   = entryValue
	ParseEntry   = parseEntry
	NodeValue    = nodeValue
	ParseNode    = parseNode
	ParseMessage = parseMessage
)
