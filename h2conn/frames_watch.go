package h2conn

import (
	"crypto/tls"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// WatchConfig tunes [Watch]. The zero value watches floods only.
type WatchConfig struct {
	// MaxFrameSize is the largest frame that the HTTP/2 server on the connection
	// admits, in bytes. Zero means 16 KiB, which is the least that there is.
	MaxFrameSize uint32

	// HeaderTimeout is how long the headers of one request may take from their
	// first byte to their last. Zero or negative: for ever.
	HeaderTimeout time.Duration

	// Begun, if not nil, is called when the peer has begun HTTP/2.
	Begun func()

	// Headers, if not nil, is called when a header block has begun that is not
	// whole yet, and when that has changed. It must not block.
	Headers func(unfinished bool)

	// Flooded, if not nil, is called when the peer is cut off for its frames.
	Flooded func()

	// Memory learns what the connection holds.
	Memory Memory
}

// WatchedConn is a connection on which this process serves HTTP/2 to a peer that
// is no tunnel: a viewer. x/net's server counts few of the frames that carry
// nothing, gives a header block all the time in the world and tells nobody what
// it holds; a WatchedConn does. A peer that sends more useless frames than the
// budget of docs/adr/0014 allows is cut off.
type WatchedConn struct {
	netconn.Layer
	cfg    WatchConfig
	frames frameReader

	state      atomic.Int32 // a watchState; only the goroutine that reads changes it
	unfinished bool         // a header block has begun that is not whole
}

type watchState int32

const (
	watchSniffing watchState = iota // HTTP/1 or HTTP/2: the first bytes will tell
	watchOn                         // HTTP/2
	watchOff                        // HTTP/1: everything passes
)

// watchBurst is the glitchBurst of a viewer, which costs nothing to connect again.
const watchBurst = 1000

var errFlood = errors.New("h2conn: too many frames that carry nothing")

// Watch returns c with its frames watched from the first byte on. It may turn out
// to speak HTTP/1: then everything passes as it is.
func Watch(c net.Conn, cfg WatchConfig) *WatchedConn {
	w := &WatchedConn{Layer: netconn.Layer{Conn: c}, cfg: cfg}
	m := newMeter(len(http2.ClientPreface), int(defaultInt(cfg.MaxFrameSize, 16<<10)), false)
	m.burst, m.budget = watchBurst, watchBurst
	m.inflow.changed, m.trailers.changed = cfg.Memory.Held, cfg.Memory.Held
	w.frames = frameReader{
		source: cfg.Memory.reader(c), peer: newPeerSettings(len(http2.ClientPreface)), meter: m,
		passes: w.passes,
		flood: func() error {
			if cfg.Flooded != nil {
				cfg.Flooded()
			}
			netconn.Reset(c) // what still comes is not worth a read
			return errFlood
		},
	}
	return w
}

// WatchTLS is [Watch] for a connection whose handshake has chosen HTTP/2.
func WatchTLS(c *tls.Conn, cfg WatchConfig) *WatchedTLSConn {
	return &WatchedTLSConn{Watch(c, cfg), c}
}

// WatchedTLSConn is a [WatchedConn] over TLS.
type WatchedTLSConn struct {
	*WatchedConn
	tls *tls.Conn
}

// ConnectionState is for x/net, which puts it into requests.
func (w *WatchedTLSConn) ConnectionState() tls.ConnectionState { return w.tls.ConnectionState() }

// HeaderListLimit returns the largest header list that the peer takes in an
// answer, in bytes as RFC 9113, section 6.5.2, counts them. It is 0 if the peer
// has named none, or does not speak HTTP/2.
func (w *WatchedConn) HeaderListLimit() int64 {
	if !w.is(watchOn) {
		return 0
	}
	return int64(w.frames.peer.headerListLimit())
}

func (w *WatchedConn) is(s watchState) bool { return watchState(w.state.Load()) == s }

// Read implements [net.Conn].
func (w *WatchedConn) Read(p []byte) (int, error) {
	if w.is(watchOff) {
		if len(w.frames.rest) == 0 {
			return w.Conn.Read(p)
		}
		return w.frames.Read(p)
	}
	if w.frames.meter.headers {
		// The handler of the last request first: otherwise all requests that have come
		// on all connections are decoded before one can be answered or refused.
		w.frames.meter.headers = false
		runtime.Gosched()
	}
	n, err := w.frames.Read(p)
	if w.is(watchOn) {
		w.timeHeaders()
	}
	return n, err
}

// Write implements [net.Conn].
func (w *WatchedConn) Write(p []byte) (int, error) {
	if w.is(watchOn) {
		w.frames.meter.sent(p)
	}
	return w.Conn.Write(p)
}

// PassThrough is for [netconn.Socket].
func (w *WatchedConn) PassThrough() net.Conn {
	if w.is(watchOff) && len(w.frames.rest) == 0 {
		return w.Conn
	}
	return nil
}

// timeHeaders minds header blocks that come in pieces.
func (w *WatchedConn) timeHeaders() {
	if w.frames.meter.inHeaders() == w.unfinished {
		return
	}
	w.unfinished = !w.unfinished
	if w.cfg.Headers != nil {
		w.cfg.Headers(w.unfinished)
	}
	switch {
	case w.cfg.HeaderTimeout <= 0:
	case w.unfinished:
		w.SetReadDeadline(time.Now().Add(w.cfg.HeaderTimeout))
	default:
		w.SetReadDeadline(time.Time{})
	}
}

// passes sniffs: it reports whether p is no frames, or not known to be any yet.
func (w *WatchedConn) passes(p []byte) bool {
	if !w.is(watchSniffing) {
		return w.is(watchOff)
	}
	m, peer := w.frames.meter, w.frames.peer
	rest := http2.ClientPreface[len(http2.ClientPreface)-m.skip:]
	k := min(len(p), len(rest))
	switch {
	case string(p[:k]) != rest[:k]:
		// Such connections are many, and may live long.
		f := &w.frames
		f.source, f.peer, f.meter, f.passes, f.flood = nil, nil, nil, nil, nil
		w.cfg = WatchConfig{}
		w.state.Store(int32(watchOff))
		return true
	case k == len(rest):
		w.state.Store(int32(watchOn))
		if w.cfg.Begun != nil {
			w.cfg.Begun()
		}
		return false
	default:
		m.skip, peer.skip = m.skip-k, peer.skip-k
		return true
	}
}
