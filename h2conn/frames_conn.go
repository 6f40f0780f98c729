package h2conn

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// frameReader is what x/net reads the frames of a peer from: it sees the peer's
// settings go by and meters its frames. It belongs to the goroutine that reads.
type frameReader struct {
	source io.Reader
	peer   *peerSettings
	meter  *meter
	flood  func() error // what Read fails with when the budget is overdrawn
	// passes, if not nil, reports whether p, which has just come, holds no frames
	// and goes on as it is.
	passes func(p []byte) bool

	small [4 * frameHeaderLen]byte // for a Read with less room than a frame header takes
	rest  []byte                   // of small, for the next Read
}

func (r *frameReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if len(r.rest) > 0 {
			n := copy(p, r.rest)
			r.rest = r.rest[n:]
			return n, nil
		}
		if len(p) < len(r.small) {
			n, err := r.readMetered(r.small[:])
			if r.rest = r.small[:n]; n == 0 && err != nil {
				return 0, err
			}
			continue // an error comes again
		}
		if n, err := r.readMetered(p); n > 0 || err != nil {
			return n, err
		}
	}
}

// readMetered reads what the meter lets through, which may be nothing.
func (r *frameReader) readMetered(p []byte) (int, error) {
	held := r.meter.held(p)
	n, err := r.source.Read(p[held:])
	if r.passes != nil && r.passes(p[held:held+n]) {
		return held + n, err
	}
	r.peer.observe(p[held : held+n])
	n, ok := r.meter.filter(p[:held+n])
	if !ok { // what has come before is of no interest any more
		return 0, r.flood()
	}
	return n, err
}

// http2Conn is a Conn as x/net gets it: its frames are watched, and it sees why
// x/net closes it.
type http2Conn struct {
	*Conn
	frames frameReader

	// At the asking end, from the first Read on.
	started chan struct{}  // closed when buffers is set; nil after the first Read
	buffers *clientBuffers // nil: x/net's stay as they are

	lent    int           // bytes that count as held since x/net's buffer is so much larger
	quiet   time.Duration // when nothing has come for so long, buffers for writing are given up
	silence time.Duration // after which the peer is given up; zero: never
}

func newHTTP2Conn(c *Conn, peer *peerSettings, m *meter, cfg Config, mem Memory) *http2Conn {
	h := &http2Conn{Conn: c}
	c.lastRead.Store(int64(time.Since(c.start)))
	m.inflow.changed, m.trailers.changed = mem.Held, mem.Held
	if mem.Streams {
		m.arrivals = new(arrivals)
	}
	h.frames = frameReader{
		source: &timedReader{h, mem.Room}, peer: peer, meter: m,
		flood: func() error { return c.violation(m.fault) },
	}
	c.meter = m
	m.streams.several = &c.carrier.several
	c.carrier.setDirect(directWriter(c.socket))
	if netconn.Socket(c.socket) != nil && c.carrier.above != nil { // otherwise net/http may have read ahead
		c.carrier.r = netconn.Source(c.socket)
	}
	interval, timeout := defaultDuration(cfg.PingInterval, defaultPingInterval), defaultDuration(cfg.PingTimeout, defaultPingTimeout)
	h.quiet = cmp.Or(interval, defaultPingInterval) / 2
	if interval > 0 && timeout > 0 {
		h.silence = interval + timeout
	}
	return h
}

// timedReader notes when something has come.
type timedReader struct {
	conn *http2Conn
	room func() // nil: there is always room
}

func (r *timedReader) Read(p []byte) (int, error) {
	if r.room != nil {
		r.room()
	}
	n, err := r.conn.Conn.Read(p)
	if n > 0 { // the end of the connection is nothing that has come
		r.conn.lastRead.Store(int64(time.Since(r.conn.start)))
	}
	return n, err
}

func (c *http2Conn) Read(p []byte) (int, error) {
	if c.started != nil {
		c.begin()
		return 0, nil // x/net reads again, through the buffer that begin has put in place
	}
	// x/net has used what it has read, and that were whole frames.
	if c.buffers == nil || c.frames.meter.left > 0 {
		return c.frames.Read(p)
	}
	before := c.resting()
	n, err := c.frames.Read(p)
	if n > 0 {
		c.woken(before, n)
	}
	return n, err
}

// begin is the first Read.
//
//go:noinline
func (c *http2Conn) begin() {
	<-c.started
	c.started = nil
	c.buffers.shrinkReader(c)
}

// resting gives up what is not needed until something comes. As begin and woken, it is
// not inlined into Read, so that what it needs is not on the stack while Read waits.
//
//go:noinline
func (c *http2Conn) resting() (lastRead int64) {
	c.buffers.takeFrame()
	c.lends(0)
	return c.lastRead.Load()
}

// lends says that n bytes of a buffer count as held.
func (c *http2Conn) lends(n int) {
	if held := c.frames.meter.inflow.changed; held != nil && n != c.lent {
		held(int64(n - c.lent))
	}
	c.lent = n
}

// woken is the counterpart of resting, which has returned before. n bytes have come.
//
//go:noinline
func (c *http2Conn) woken(before int64, n int) {
	c.lends(c.buffers.lendFrame(c.frames.meter.left + n)) // the frame that is not whole, and a few bytes
	if c.lastRead.Load()-before >= int64(c.quiet) {
		c.buffers.shrinkWriter()
		c.frames.meter.streams.shrink()
	}
}

func (c *http2Conn) Write(p []byte) (n int, err error) {
	m := c.frames.meter
	out := &m.out
	if out.settle { // p is not ours to change
		p = bytes.Clone(p)
	}
	out.waits = m.streams.windows.lag > 0 && out.betweenFrames() && onlyWindowUpdates(p)
	m.sent(p)
	if n = len(p); !out.waits {
		n, err = c.Conn.Write(p)
	}
	if err == nil && len(out.due) > 0 && out.betweenFrames() {
		_, err = c.Conn.Write(out.due)
		out.due = out.due[:0]
	}
	return n, err
}

// Close is called by x/net, which does not tell why, and by the pinger. A peer that has
// been silent for a while is pinged, so a much longer silence means that no answer came.
func (c *http2Conn) Close() error {
	silent := c.SilentFor()
	if c.silence > 0 && silent > c.silence-c.silence/20 {
		_ = c.failed(fmt.Errorf("h2conn: the peer has been silent for %v and has not answered a ping", silent.Round(100*time.Millisecond)))
		c.carrier.kill() // without the time of a close handshake that nobody answers
	}
	return c.Conn.Close()
}
