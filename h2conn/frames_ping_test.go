package h2conn

import (
	"bytes"
	"slices"
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

// TestPingAwaited: the pinger waits for an answer and for nothing besides.
func TestPingAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := testMeter()
		m.pings.start = time.Now()
		if _, waits := m.pings.waits(); waits {
			t.Error("it waits before it pings")
		}
		m.pings.pings()
		<-time.After(time.Second)
		through(m, slices.Concat(frameOn(0, http2.FrameSettings, 0, 0), frameOn(0, http2.FramePing, 0, 8)), func() int { return 5 })
		if d, waits := m.pings.waits(); !waits || d.Round(time.Millisecond) != time.Second || m.pings.calmed() {
			t.Errorf("it waits %t, for %v", waits, d)
		}
		through(m, frameOn(0, http2.FramePing, http2.FlagPingAck, 8), func() int { return 5 })
		if _, waits := m.pings.waits(); waits || !m.pings.calmed() || m.pings.calmed() {
			t.Error("the answer does not count, or counts twice")
		}
	})
}

// TestPingBehindFrame: a ping does not go into the middle of a frame, or of a header block.
func TestPingBehindFrame(t *testing.T) {
	for name, sent := range map[string][]byte{
		"half a header": frame(http2.FrameData, 0, 10)[:5],
		"half a frame":  frame(http2.FrameData, 0, 10)[:12],
		"half a block":  frame(http2.FrameHeaders, 0, 10),
	} {
		m := testMeter()
		m.out.skip = 0
		m.sent(sent)
		c := &http2Conn{frames: frameReader{meter: m}} // to write would panic
		c.ping()
		if !bytes.Equal(m.out.due, pingFrame[:]) {
			t.Errorf("%s: %x is due", name, m.out.due)
		}
	}
}

// TestPingGrid: the waits of connections that begin one after the other end together, never
// later than they should, and little earlier.
func TestPingGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, wait = 10, 15 * time.Second
		ends := make(chan time.Time, n)
		for range n {
			begun := time.Now()
			var p pinger
			p.timer = time.AfterFunc(time.Hour, func() {
				if took := time.Since(begun); took > wait || took < wait-early(wait) {
					t.Errorf("it took %v", took)
				}
				ends <- time.Now()
			})
			p.after(wait)
			<-time.After(7 * time.Millisecond)
		}
		at := make(map[time.Time]int)
		for range n {
			at[<-ends]++
		}
		if len(at) > 2 {
			t.Errorf("they ended at %v", at)
		}
		begun := time.Now()
		p := pinger{timer: time.AfterFunc(time.Hour, func() { ends <- time.Now() })}
		p.after(50 * time.Millisecond)
		if took := (<-ends).Sub(begun); took != 50*time.Millisecond {
			t.Errorf("a short wait took %v", took)
		}
	})
}
