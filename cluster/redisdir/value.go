package redisdir

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
)

// maxValue is how long a value may be, and maxName an id or a node's name, both as
// they are stored. What is longer is not written, and counts as absent.
const (
	maxValue = 2 << 10
	maxName  = 256
)

// format is the first word of each value. A later version adds words at the end, which
// this one ignores; it leaves the others, and what is signed of them, as they are.
const format = "1"

// entryValue returns e as it is stored, without its id, which is in the key.
func entryValue(e cluster.Entry) string {
	return strings.Join([]string{
		format,
		strconv.FormatUint(e.Gen, 10),
		strconv.FormatUint(e.Attempt, 10),
		url.QueryEscape(e.Node),
		url.QueryEscape(e.Boot),
		url.QueryEscape(e.Instance),
		url.QueryEscape(e.Sig),
	}, " ")
}

// writes reports whether value is own, which this version writes, with or without words
// that a later version has added.
func writes(own, value string) bool {
	added, ok := strings.CutPrefix(value, own)
	return ok && (added == "" || added[0] == ' ' && strings.TrimSpace(added) != "")
}

// parseEntry is the inverse of entryValue, for the entry of id. It reports false of
// a value that entryValue does not begin.
func parseEntry(id, value string) (e cluster.Entry, ok bool) {
	if len(value) > maxValue || id == "" {
		return e, false
	}
	words := strings.SplitN(value, " ", 8)
	if len(words) < 7 {
		return e, false
	}
	var r reader
	e = cluster.Entry{
		ID:       id,
		Gen:      r.uint(words[1]),
		Attempt:  r.uint(words[2]),
		Node:     r.text(words[3]),
		Boot:     r.text(words[4]),
		Instance: r.text(words[5]),
		Sig:      r.text(words[6]),
	}
	if r.failed || !writes(entryValue(e), value) {
		return cluster.Entry{}, false
	}
	return e, true
}

// bootPrefix returns the beginning of n's value that changes with its boot alone.
func bootPrefix(n cluster.Node) string {
	return format + " " + url.QueryEscape(n.Boot) + " "
}

// statePrefix returns the beginning of n's value that the other nodes are told
// about when it changes.
func statePrefix(n cluster.Node) string {
	return bootPrefix(n) + url.QueryEscape(string(n.State)) + " " + url.QueryEscape(n.Addr) + " "
}

// nodeValue returns n as it is stored, without its name, which is in the key.
func nodeValue(n cluster.Node) string {
	var beat int64
	if !n.Beat.IsZero() {
		beat = n.Beat.UnixNano()
	}
	return statePrefix(n) + strings.Join([]string{
		url.QueryEscape(n.Version),
		strconv.Itoa(n.Tunnels),
		strconv.FormatInt(beat, 10),
		url.QueryEscape(n.Sig),
	}, " ")
}

// parseNode is the inverse of nodeValue, for the node of that name.
func parseNode(name, value string) (n cluster.Node, ok bool) {
	if len(value) > maxValue || name == "" {
		return n, false
	}
	words := strings.SplitN(value, " ", 9)
	if len(words) < 8 {
		return n, false
	}
	var r reader
	n = cluster.Node{
		Name:    name,
		Boot:    r.text(words[1]),
		State:   cluster.State(r.text(words[2])),
		Addr:    r.text(words[3]),
		Version: r.text(words[4]),
		Tunnels: int(r.int(words[5])),
		Sig:     r.text(words[7]),
	}
	if beat := r.int(words[6]); beat != 0 {
		n.Beat = time.Unix(0, beat)
	}
	if r.failed || !writes(nodeValue(n), value) {
		return cluster.Node{}, false
	}
	return n, true
}

// reader reads words, and remembers whether one of them could not be read.
type reader struct{ failed bool }

func (r *reader) text(word string) string {
	s, err := url.QueryUnescape(word)
	r.failed = r.failed || err != nil
	return s
}

func (r *reader) uint(word string) uint64 {
	n, err := strconv.ParseUint(word, 10, 64)
	r.failed = r.failed || err != nil
	return n
}

func (r *reader) int(word string) int64 {
	n, err := strconv.ParseInt(word, 10, 64)
	r.failed = r.failed || err != nil
	return n
}

// Letters of messages.
const (
	claimed     = "c"
	released    = "r"
	nodeChanged = "n"
	nodeLeft    = "l"
)

func message(letter, name, value string) string {
	return letter + " " + url.QueryEscape(name) + " " + value
}

// parseMessage returns the event that a message is of. It reports false of one that
// message does not make.
func parseMessage(s string) (ev cluster.Event, ok bool) {
	letter, rest, _ := strings.Cut(s, " ")
	name, value, _ := strings.Cut(rest, " ")
	if len(name) > maxName {
		return ev, false
	}
	id, err := url.QueryUnescape(name)
	if err != nil {
		return ev, false
	}
	switch letter {
	case claimed, released:
		ev.Kind = cluster.EventClaimed
		if letter == released {
			ev.Kind = cluster.EventReleased
		}
		ev.Entry, ok = parseEntry(id, value)
	case nodeChanged, nodeLeft:
		ev.Kind = cluster.EventNodeChanged
		if letter == nodeLeft {
			ev.Kind = cluster.EventNodeLeft
		}
		ev.Node, ok = parseNode(id, value)
	}
	return ev, ok
}
