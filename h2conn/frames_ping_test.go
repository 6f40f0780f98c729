package h2conn

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestPingClock: answers are timed, and nothing else counts: answers to nothing,
// second answers, the peer's own pings.
func TestPingClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		m := testMeter()
		m.pings.start, m.pings.answered = time.Now().Add(-time.Second), func(d time.Duration) { took = append(took, d) }
		m.out.skip = 0
		const ack = http2.FlagPingAck
		receive := func(flags http2.Flags) {
			through(m, frameOn(0, http2.FramePing, flags, 8), func() int { return 5 })
		}
		receive(ack)
		m.sent(frameOn(0, http2.FramePing, ack, 8))
		receive(ack)
		m.sent(frameOn(0, http2.FramePing, 0, 8))
		<-time.After(30 * time.Millisecond)
		receive(0)
		receive(ack)
		receive(ack)
		if len(took) != 1 || took[0] != 30*time.Millisecond {
			t.Errorf("answers took %v, want one of 30ms", took)
		}
	})
}

// TestPingClockUnused: nothing is called where nobody wants to know.
func TestPingClockUnused(t *testing.T) {
	m := testMeter()
	m.sent(frameOn(0, http2.FramePing, 0, 8)) // nobody wants to know
	through(m, frameOn(0, http2.FramePing, http2.FlagPingAck, 8), func() int { return 17 })
}
