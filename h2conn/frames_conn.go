package h2conn

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
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

	// ahead, for a Read with little room, has what comes in the next Reads as well. x/net's
	// server has 9 bytes for a frame's header: with inlets, in which most of what comes
	// goes elsewhere, more is read at a time.
	ahead  []byte
	rest   []byte // of ahead, for the next Read
	inlets atomic.Bool
}

const (
	smallAhead = 4 * frameHeaderLen
	inletAhead = 4 << 10
)

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
		if len(p) < smallAhead {
			switch {
			case r.inlets.Load() && len(r.ahead) < inletAhead:
				r.ahead = make([]byte, inletAhead)
			case r.ahead == nil:
				r.ahead = make([]byte, smallAhead)
			}
			n, err := r.readMetered(r.ahead)
			if r.rest = r.ahead[:n]; n == 0 && err != nil {
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

// maxQuiet is after how much silence a connection is quiet, at most.
const maxQuiet = 4 * time.Second

// http2Conn is a Conn as x/net gets it: its frames are watched, and it sees why
// x/net closes it.
type http2Conn struct {
	*Conn
	frames frameReader

	writeMu sync.Mutex // held while anything is written
	spare   []byte     // for frames.meter.out.due; guarded by writeMu
	outMu   sync.Mutex // guards frames.meter.out and sends; never held while anything waits
	sends   bool       // there is a goroutine that is to send what is due

	// At the asking end, from the first Read on.
	started chan struct{}  // closed when buffers is set; nil after the first Read
	buffers *clientBuffers // nil: x/net's stay as they are
	through int            // bytes that still go through x/net's reader: those of the first frame's header

	ahead  *[frameAhead]byte // lent to unread, or nil
	unread []byte            // has been read and metered, and x/net has not taken it
	rests  bool              // nothing of a frame is here
	before int64             // lastRead when rest began

	lent    int           // bytes that count as held since x/net's buffer is so much larger
	pinger  *pinger       // sees whether the connection is quiet; nil: there is none
	quiet   time.Duration // when nothing has come for so long, what is for writing is given up
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
	c.meter, c.http2 = m, h
	m.giveBack = func(n int) { h.giveBack(0, n) }
	m.streams.several = &c.carrier.several
	c.carrier.setDirect(directWriter(c.socket))
	if netconn.Socket(c.socket) != nil && c.carrier.above != nil { // otherwise net/http may have read ahead
		c.carrier.r = netconn.Source(c.socket)
		c.carrier.await = waitsOn(c.socket, c.carrier)
	}
	interval, timeout := defaultDuration(cfg.PingInterval, defaultPingInterval), defaultDuration(cfg.PingTimeout, defaultPingTimeout)
	h.quiet = min(cmp.Or(interval, defaultPingInterval)/2, maxQuiet)
	if interval > 0 && timeout > 0 {
		h.silence = interval + timeout
	}
	m.lastRead, m.shows = &c.lastRead, int64(interval/4)
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

// frameAhead is how much of frames is read ahead at a time: some small ones, or the header
// of a large one, the rest of which would only be copied once more.
const frameAhead = 2 << 10

var framesAhead = sync.Pool{New: func() any { return new([frameAhead]byte) }}

// Read gives x/net its frames. It waits for them here, where little is on the stack, and
// reads when they are there. So nothing that it calls is inlined.
func (c *http2Conn) Read(p []byte) (int, error) {
	if c.started != nil {
		c.begin()
		return 0, nil // x/net reads again, through what begin has put in place
	}
	if w := c.resting(); w != nil {
		_ = w.raw.Read(w.ready) // an error comes again
		c.carrier.endWait()
	}
	return c.readFrames(p)
}

// resting gives up what is not needed until something comes, if x/net has used what it has
// read, and that were whole frames. It returns how to wait for more, if nothing is here.
//
//go:noinline
func (c *http2Conn) resting() *socketWait {
	if c.buffers == nil || len(c.unread) > 0 || c.frames.meter.left > 0 {
		return nil
	}
	c.rests, c.before = true, c.lastRead.Load()
	c.buffers.takeFrame()
	c.lends(0)
	if c.ahead != nil {
		framesAhead.Put(c.ahead)
		c.ahead, c.unread = nil, nil
	}
	if w := c.carrier.await; w != nil && len(c.frames.rest) == 0 && c.betweenMessages() && c.carrier.beginWait() {
		return w
	}
	return nil
}

// begin is the first Read.
//
//go:noinline
func (c *http2Conn) begin() {
	<-c.started
	c.started = nil
	c.buffers.replaceReader(c)
	c.through = frameHeaderLen
}

// lends says that n bytes of a buffer count as held.
func (c *http2Conn) lends(n int) {
	if held := c.frames.meter.inflow.changed; held != nil && n != c.lent {
		held(int64(n - c.lent))
	}
	c.lent = n
}

//go:noinline
func (c *http2Conn) readFrames(p []byte) (n int, err error) {
	if c.buffers == nil {
		n, err = c.frames.Read(p)
		c.woken(n)
		return n, err
	}
	if c.through > 0 {
		p = p[:min(len(p), c.through)]
	}
	if len(c.unread) == 0 && len(p) < frameAhead {
		if c.ahead == nil {
			c.ahead = framesAhead.Get().(*[frameAhead]byte)
		}
		n, err = c.frames.Read(c.ahead[:])
		c.unread = c.ahead[:n]
		c.woken(n)
		if n == 0 {
			return 0, err
		}
		err = nil // it comes again
	}
	if len(c.unread) > 0 {
		n = copy(p, c.unread)
		c.unread = c.unread[n:]
	} else {
		n, err = c.frames.Read(p)
		c.woken(n)
	}
	c.through = max(c.through-n, 0)
	return n, err
}

// woken is the counterpart of resting. n bytes have come.
func (c *http2Conn) woken(n int) {
	calm := c.pinger != nil && c.frames.meter.pings.calmed()
	if calm {
		c.pinger.after(c.pinger.interval)
	}
	if !c.rests || n == 0 {
		return
	}
	c.rests = false
	c.lends(c.buffers.lendFrame(c.frames.meter.left + n)) // the frame that is not whole, and a few bytes
	if c.lastRead.Load()-c.before >= int64(c.quiet) {
		c.shrinkWriter()
		if c.pinger != nil && !calm {
			c.pinger.timer.Reset(c.quiet)
		}
	}
}

// shrinkWriter gives up what is for writing and not needed by a quiet connection.
func (c *http2Conn) shrinkWriter() {
	streams := &c.frames.meter.streams
	c.buffers.shrinkWriter(streams.newest())
	streams.shrink()
}

func (c *http2Conn) Write(p []byte) (n int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.writeLocked(p)
}

func (c *http2Conn) writeLocked(p []byte) (n int, err error) {
	n = len(p)
	if p, waits := c.observe(p); !waits {
		n, err = c.Conn.Write(p)
	}
	if err == nil {
		err = c.writeDue()
	}
	return n, err
}

// observe notes that p is about to be written. It returns what to write instead, and whether
// that is to wait.
func (c *http2Conn) observe(p []byte) (instead []byte, waits bool) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	m := c.frames.meter
	out := &m.out
	if out.settle { // p is not ours to change
		p = bytes.Clone(p)
	}
	out.waits = m.streams.windows.lag > 0 && out.betweenFrames() && onlyWindowUpdates(p)
	m.sent(p)
	return p, out.waits
}

// writeDue writes what is due, if a frame could begin here. writeMu is held.
func (c *http2Conn) writeDue() error {
	c.outMu.Lock()
	out := &c.frames.meter.out
	if len(out.due) == 0 || !out.betweenFrames() {
		c.outMu.Unlock()
		return nil
	}
	due := out.due
	out.due = c.spare[:0]
	c.outMu.Unlock()
	c.spare = due
	_, err := c.Conn.Write(due)
	return err
}

// sendDue writes what is due, unless x/net is in the middle of a frame, and so does that next.
func (c *http2Conn) sendDue() {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.outMu.Lock()
	c.sends = false
	c.outMu.Unlock()
	_ = c.writeDue() // the next Write, and Read, have the error too
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
