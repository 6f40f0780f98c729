package redisdir

import (
	"errors"
	"net"
	"sync/atomic"
)

// A conn is a connection to a server. It fails when the server sends what a directory
// cannot have asked for. The client trusts its server: it would hold a message of
// hundreds of megabytes, which anybody who can write to the store can publish, and it
// panics when an answer comes that nobody waits for, or when it has not been let in.
type conn struct {
	net.Conn
	answers  framing // of the goroutine that reads
	commands framing // of the one that writes
	sent     atomic.Int64
}

var (
	errUnasked = errors.New("the store has sent more than a node can have asked for")
	errNoAuth  = errors.New("NOAUTH: the store asks for a password")
	errCommand = errors.New("a command is too long")
)

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.answers.follow(p[:n]) || c.answers.messages > c.sent.Load() {
		return 0, errUnasked
	}
	if c.answers.noAuth {
		return 0, errNoAuth // in some places the client would panic
	}
	return n, err
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	if !c.commands.follow(p) {
		return 0, errCommand
	}
	c.sent.Store(c.commands.messages)
	return c.Conn.Write(p)
}
