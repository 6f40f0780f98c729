package h2conn

import (
	"cmp"
	"log"
	"time"
)

// Config tunes what both ends of HTTP/2 have, each for itself. The zero value is
// ready to use. For every duration, zero means the default named and negative
// switches the mechanism off.
type Config struct {
	// StreamWindow and ConnWindow are this end's receive windows in bytes, at
	// most: how much the peer may send on one stream, and on all streams
	// together, before this end's reader has taken it. ConnWindow is also how
	// much memory one peer can make this end hold. Zero means 8 MiB, and 256 MiB
	// at the asking end, 32 MiB at the answering end.
	//
	// If ConnWindow is less than 250 times StreamWindow, a stream begins with a
	// smaller window, a quarter of ConnWindow divided by 250 and no less than 64 KiB,
	// and the rest is for those that are read as fast as they come: they grow
	// with what the link carries in a round trip. So streams that are not read
	// never keep others from going on.
	StreamWindow int32
	ConnWindow   int32

	// MaxFrameSize is the largest frame that this end accepts, in bytes.
	// Zero means 256 KiB. The answering end keeps a buffer as large as the largest frame
	// that it has received.
	MaxFrameSize uint32

	// MaxHeaderBytes limits the header list of one message that this end
	// receives. Zero means 256 KiB at the asking end and 192 KiB at the
	// answering end.
	MaxHeaderBytes uint32

	// PingInterval is how long the connection may be silent before this end
	// pings it. Zero means 15 s.
	PingInterval time.Duration

	// PingTimeout is how long the answer to a ping may take before this end
	// gives up the connection. Zero means 10 s.
	PingTimeout time.Duration
}

// TransportConfig tunes the asking end. The zero value is ready to use.
type TransportConfig struct {
	Config

	// NoExtendedConnect makes upgrades take the fallback form even where
	// extended CONNECT (RFC 8441) is possible. It exists for tests and for
	// peers whose extended CONNECT is broken.
	NoExtendedConnect bool

	// PingAnswered, if not nil, is told how long the peer took to answer each
	// ping of this end. The goroutine that reads calls it, so it must not block.
	PingAnswered func(time.Duration)

	// GoneAway, if not nil, is called when the peer has sent GOAWAY. The goroutine that
	// reads calls it, so it must not block.
	GoneAway func()

	// Memory learns what the connection holds.
	Memory Memory
}

// ServeConfig tunes the answering end. The zero value is ready to use.
type ServeConfig struct {
	Config

	// MaxConcurrentStreams is how many requests the peer may have in flight
	// at once. Zero means 250.
	MaxConcurrentStreams uint32

	// DrainTimeout is how long requests in flight may go on after Serve's
	// context has ended. Zero or negative: not at all.
	DrainTimeout time.Duration

	// Budget bounds what the requests of several connections hold together. Nil
	// means one for this connection alone.
	Budget *Budget

	// Memory learns what the connection holds.
	Memory Memory

	// ErrorLog receives the messages of x/net/http2, and panics of handlers.
	// Nil means the standard logger, which is also where x/net/http2 writes at
	// the asking end.
	ErrorLog *log.Logger
}

// defaultDuration applies the rule for durations in Config: zero becomes def,
// and negative, which is off, zero.
func defaultDuration(d, def time.Duration) time.Duration { return max(cmp.Or(d, def), 0) }

func defaultInt[T int32 | uint32 | int](n, def T) T { return cmp.Or(max(n, 0), def) }
