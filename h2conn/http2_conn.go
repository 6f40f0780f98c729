package h2conn

import (
	"fmt"
	"sync/atomic"
	"time"
)

// http2Conn is a Conn as x/net gets it: it sees the peer's settings go by, and
// why x/net closes it.
type http2Conn struct {
	*Conn
	peer *peerSettings

	silence  time.Duration // after which x/net gives the peer up; zero: never
	lastRead atomic.Int64  // time since start
	start    time.Time
}

func newHTTP2Conn(c *Conn, peer *peerSettings, cfg Config) *http2Conn {
	h := &http2Conn{Conn: c, peer: peer, start: time.Now()}
	interval, timeout := defaultDuration(cfg.PingInterval, defaultPingInterval), defaultDuration(cfg.PingTimeout, defaultPingTimeout)
	if interval > 0 && timeout > 0 {
		h.silence = interval + timeout
	}
	return h
}

func (c *http2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.peer.observe(p[:n])
	c.lastRead.Store(int64(time.Since(c.start)))
	return n, err
}

// Close is called by x/net, which does not tell why. It pings a peer that has
// been silent for a while, so a much longer silence means that no answer came.
func (c *http2Conn) Close() error {
	silent := time.Since(c.start) - time.Duration(c.lastRead.Load())
	if c.silence > 0 && silent > c.silence-c.silence/20 {
		_ = c.failed(fmt.Errorf("h2conn: the peer has been silent for %v and has not answered a ping", silent.Round(100*time.Millisecond)))
		c.carrier.kill() // without the time of a close handshake that nobody answers
	}
	return c.Conn.Close()
}
