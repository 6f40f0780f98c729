package redisdir

import (
	"slices"
	"time"
)

// MaxReply is the bound of texts.
const MaxReply = maxReply

// Allow reports whether answers that come in pieces are within bounds.
func Allow(answers string, piece int) bool {
	var r replies
	for p := range slices.Chunk([]byte(answers), piece) {
		if !r.allow(p) {
			return false
		}
	}
	return true
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
