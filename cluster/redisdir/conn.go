package redisdir

import (
	"errors"
	"net"
	"strconv"
)

const (
	// maxReply is how long a text from a server may be, and how many parts an
	// answer may have. Values have 2 KiB at most, but anybody who can write to the
	// store can publish a message of hundreds of megabytes, which the client would
	// keep whole.
	maxReply = 64 << 10

	maxDigits = 20
)

var errReply = errors.New("the store has sent more than a node can have asked for")

// boundedConn is a connection to a server. Reading fails when an answer exceeds what
// the directory can have asked for.
type boundedConn struct {
	net.Conn
	replies replies
}

// Read implements [net.Conn].
func (c *boundedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.replies.allow(p[:n]) {
		return 0, errReply
	}
	return n, err
}

// replies follows the framing of answers: lines that begin with their type, and texts
// behind the lines that say how long they are (RESP2 and RESP3).
type replies struct {
	rest   int  // bytes of a text that are still to come
	length int  // bytes of the line so far
	kind   byte // the first byte of the line
	digits [maxDigits]byte
}

// allow reports whether the answers are within bounds so far. p is what comes next.
func (r *replies) allow(p []byte) bool {
	for len(p) > 0 {
		if r.rest > 0 {
			n := min(r.rest, len(p))
			r.rest -= n
			p = p[n:]
			continue
		}
		b := p[0]
		p = p[1:]
		switch {
		case b == '\n':
			if !r.endLine() {
				return false
			}
			continue
		case r.length == 0:
			r.kind = b
		case r.length <= maxDigits:
			r.digits[r.length-1] = b
		}
		if r.length++; r.length > maxReply {
			return false
		}
	}
	return true
}

// endLine ends a line. If a text or several parts follow it, they are counted.
func (r *replies) endLine() bool {
	length := r.length - 2 // without the type, and the carriage return
	r.length = 0
	switch r.kind {
	case '$', '=', '!', '*', '%', '~', '>', '|':
	default:
		return true
	}
	if length < 0 || length > maxDigits {
		return false
	}
	n, err := strconv.Atoi(string(r.digits[:length]))
	if err != nil || n > maxReply {
		return false
	}
	if r.kind == '$' || r.kind == '=' || r.kind == '!' {
		if n >= 0 { // -1 stands for no text at all
			r.rest = n + len("\r\n")
		}
	}
	return true
}
