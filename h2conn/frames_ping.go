package h2conn

import (
	"sync/atomic"
	"time"

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
