package h2conn

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// http2Conn is a Conn as x/net gets it: it sees the peer's settings go by,
// meters its frames, and sees why x/net closes it.
type http2Conn struct {
	*Conn
	source io.Reader // the Conn
	peer   *peerSettings
	meter  *meter
	small  [4 * frameHeaderLen]byte // for a Read with less room than a frame header takes
	rest   []byte                   // of small, for the next Read

	silence  time.Duration // after which x/net gives the peer up; zero: never
	lastRead atomic.Int64  // time since start
	start    time.Time
}

func newHTTP2Conn(c *Conn, peer *peerSettings, m *meter, cfg Config) *http2Conn {
	h := &http2Conn{Conn: c, source: c, peer: peer, meter: m, start: time.Now()}
	c.meter = m
	interval, timeout := defaultDuration(cfg.PingInterval, defaultPingInterval), defaultDuration(cfg.PingTimeout, defaultPingTimeout)
	if interval > 0 && timeout > 0 {
		h.silence = interval + timeout
	}
	return h
}

func (c *http2Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(c.rest) > 0 {
			n := copy(p, c.rest)
			c.rest = c.rest[n:]
			return n, nil
		}
		if len(p) < len(c.small) {
			n, err := c.readMetered(c.small[:])
			if c.rest = c.small[:n]; n == 0 && err != nil {
				return 0, err
			}
			continue // an error comes again
		}
		if n, err := c.readMetered(p); n > 0 || err != nil {
			return n, err
		}
	}
}

// readMetered reads what the meter lets through, which may be nothing.
func (c *http2Conn) readMetered(p []byte) (int, error) {
	held := c.meter.held(p)
	n, err := c.source.Read(p[held:])
	c.peer.observe(p[held : held+n])
	c.lastRead.Store(int64(time.Since(c.start)))
	n, ok := c.meter.filter(p[:held+n])
	if !ok { // what has come before is of no interest any more
		return 0, c.violation("too many frames that carry nothing")
	}
	return n, err
}

func (c *http2Conn) Write(p []byte) (int, error) {
	c.meter.sent(p)
	return c.Conn.Write(p)
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
