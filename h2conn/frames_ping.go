package h2conn

import (
	"context"
	"math"
	"sync/atomic"
	"time"
	"weak"

	"golang.org/x/net/http2"
)

// pingClock times the pings that this end sends. Of several that are under way
// it times the last.
type pingClock struct {
	start    time.Time
	answered func(time.Duration) // nil: nobody wants to know
	asked    atomic.Int64        // when the last was sent, as time since start; zero: no answer is due
}

// sent sees each frame that is sent.
func (c *pingClock) sent(kind http2.FrameType, flags http2.Flags) {
	if kind == http2.FramePing && flags&http2.FlagPingAck == 0 && c.answered != nil {
		c.asked.Store(int64(max(time.Since(c.start), 1)))
	}
}

// received sees each frame that is received. An answer to nothing counts for
// nothing.
func (c *pingClock) received(kind http2.FrameType, flags http2.Flags) {
	if kind != http2.FramePing || flags&http2.FlagPingAck == 0 || c.answered == nil {
		return
	}
	if asked := c.asked.Swap(0); asked != 0 {
		c.answered(time.Since(c.start) - time.Duration(asked))
	}
}

// pinger is how the asking end notices that its peer has vanished.
type pinger struct {
	conn              *http2Conn
	interval, timeout time.Duration
	timer             *time.Timer
}

// keepAlive pings a peer that has been silent for a while, and closes the connection if
// the answer does not come in time. x/net can do that by itself, but its timer would keep
// everything that belongs to a connection for the interval after its end, and a peer that
// connects and goes again and again would fill the memory.
func (t *Transport) keepAlive(h *http2Conn, cfg Config) {
	t.pinger = pinger{
		conn:     h,
		interval: defaultDuration(cfg.PingInterval, defaultPingInterval),
		timeout:  defaultDuration(cfg.PingTimeout, defaultPingTimeout),
	}
	if t.pinger.interval == 0 {
		return
	}
	self := weak.Make(t)
	t.pinger.timer = time.AfterFunc(math.MaxInt64, func() {
		if t := self.Value(); t != nil {
			t.pingIfSilent()
		}
	})
	h.timer = t.pinger.timer
	t.pinger.after(t.pinger.interval) // now that the fields are set
}

// pingGrid is how far apart the times are at which a process looks after connections that
// rest. To wake up for each of thousands costs more than its ping. They come up to two
// of these too early, so that the peer, which may ping after the same time, need not.
const pingGrid = 100 * time.Millisecond

// early returns by how much a wait for d may be too short.
func early(d time.Duration) time.Duration {
	if d < 50*pingGrid {
		return 0
	}
	return 2 * pingGrid
}

// after sets the timer to d, or a little less.
func (p *pinger) after(d time.Duration) {
	if early(d) > 0 {
		d -= pingGrid + (time.Duration(time.Now().UnixNano())+d)%pingGrid
	}
	p.timer.Reset(d)
}

func (t *Transport) pingIfSilent() {
	p := &t.pinger
	silent := p.conn.SilentFor()
	if rest := p.interval - silent; rest > early(p.interval) {
		if p.conn.buffers != nil && silent < p.conn.quiet-early(p.conn.quiet) {
			rest = min(rest, p.conn.quiet-silent) // to see whether it has become quiet
		} else if p.conn.buffers != nil {
			p.conn.shrinkWriter()
		}
		p.after(rest)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
	defer cancel()
	if t.cc.Ping(ctx) != nil {
		_ = p.conn.Close()
		return
	}
	p.after(p.interval)
}
