package h2conn

import (
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

	pinged atomic.Int64 // when the pinger's was, likewise
	calm   bool         // it has been answered; owned by the goroutine that reads
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
	if kind != http2.FramePing || flags&http2.FlagPingAck == 0 {
		return
	}
	c.calm = c.pinged.Swap(0) != 0 || c.calm
	if asked := c.asked.Swap(0); asked != 0 && c.answered != nil {
		c.answered(time.Since(c.start) - time.Duration(asked))
	}
}

// pings notes that the pinger is about to send one.
func (c *pingClock) pings() { c.pinged.Store(int64(max(time.Since(c.start), 1))) }

// waits returns for how long the pinger has waited for an answer, and whether it does.
func (c *pingClock) waits() (d time.Duration, ok bool) {
	pinged := c.pinged.Load()
	return time.Since(c.start) - time.Duration(pinged), pinged != 0
}

// calmed reports, once, that the pinger has its answer. It is for the goroutine that reads.
func (c *pingClock) calmed() bool {
	calm := c.calm
	c.calm = false
	return calm
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
// connects and goes again and again would fill the memory. And each ping of x/net's takes
// two goroutines, which beside thousands of tunnels is most of what it costs.
func (t *Transport) keepAlive(h *http2Conn, cfg Config) {
	p := &t.pinger
	p.conn = h
	p.interval = defaultDuration(cfg.PingInterval, defaultPingInterval)
	p.timeout = defaultDuration(cfg.PingTimeout, defaultPingTimeout)
	if p.interval == 0 {
		return
	}
	self := weak.Make(t)
	p.timer = time.AfterFunc(math.MaxInt64, func() {
		if t := self.Value(); t != nil {
			t.pingIfSilent()
		}
	})
	h.pinger = p
}

// start sets the timer for the first time, if there is one.
func (p *pinger) start() {
	if p.timer != nil {
		p.after(p.interval)
	}
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
	clock := &p.conn.frames.meter.pings
	if waited, ok := clock.waits(); ok {
		switch {
		case p.timeout == 0: // the answer may take for ever
		case waited < p.timeout:
			p.timer.Reset(p.timeout - waited)
		default:
			_ = p.conn.Close()
		}
		return
	}
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
	clock.pings()
	if p.timeout > 0 {
		p.timer.Reset(p.timeout) // first, for the peer may have stopped reading
	}
	p.conn.ping()
}

// pingFrame is a PING without an answer (RFC 9113, section 6.7).
var pingFrame = [frameHeaderLen + 8]byte{2: 8, 3: byte(http2.FramePing)}

// ping sends a PING: now, or behind the frame that x/net is in the middle of.
func (c *http2Conn) ping() {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.outMu.Lock()
	out := &c.frames.meter.out
	between := out.betweenFrames()
	if !between {
		out.due = append(out.due, pingFrame[:]...)
		c.frames.meter.earned.Add(c.frames.meter.earns(http2.FramePing, 0, 8, 0)) // sent does not see it
	}
	c.outMu.Unlock()
	if between {
		_, _ = c.writeLocked(pingFrame[:]) // the next Write, and Read, have the error too
	}
}
