package h2conn

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestLateData: DATA for a stream that is over costs, except for what may have
// been on its way when this end has reset the stream.
func TestLateData(t *testing.T) {
	data := func(m *meter, stream uint32, n int) (sent int, ok bool) {
		f := frameOn(stream, http2.FrameData, 0, n)
		buf := make([]byte, len(f))
		for range 100_000 {
			copy(buf, f)
			if _, ok := m.filter(buf); !ok {
				return sent, false
			}
			sent++
		}
		return sent, true
	}
	for name, end := range map[string]func(*meter){
		"ended by the peer": func(m *meter) { m.filter(frameOn(1, http2.FrameData, http2.FlagDataEndStream, 1)) },
		"reset by the peer": func(m *meter) { m.filter(frameOn(1, http2.FrameRSTStream, 0, 4)) },
		"reset by this end": func(m *meter) { m.sent(frameOn(1, http2.FrameRSTStream, 0, 4)) },
	} {
		t.Run(name, func(t *testing.T) {
			m := testMeter()
			m.first = true
			m.sent(append([]byte(http2.ClientPreface), frameOn(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 20)...))
			if n, ok := data(m, 1, 1); !ok {
				t.Fatalf("an open stream was charged: over after %d frames", n)
			}
			end(m)
			if n, ok := data(m, 1, 1); ok || n > 2*glitchBurst {
				t.Errorf("over after %d frames for a stream that is over (ok: %v)", n, ok)
			}
		})
	}
	t.Run("what was on its way", func(t *testing.T) {
		m := testMeter()
		m.first = true
		m.out.skip = 0
		m.grows(newStreamWindows(askingStreamWindow, askingConnWindow))
		for stream := uint32(1); stream < 2000; stream += 2 {
			m.sent(frameOn(stream, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 20))
			m.sent(frameOn(stream, http2.FrameRSTStream, 0, 4))
			for range m.streams.windows.first / (16 << 10) {
				if _, ok := m.filter(frameOn(stream, http2.FrameData, 0, 16<<10)); !ok {
					t.Fatalf("stream %d: a window of DATA after a reset was taken for a flood", stream)
				}
			}
		}
	})
	t.Run("resets that answer late DATA earn nothing", func(t *testing.T) {
		m := newMeter(0, 16<<10, false)
		m.now = func() time.Time { return m.last }
		m.first = true
		m.filter(frameOn(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 5))
		for range 2 * glitchBurst {
			if _, ok := m.filter(frameOn(1, http2.FrameData, 0, 1)); !ok {
				return
			}
			m.sent(frameOn(1, http2.FrameRSTStream, 0, 4))
		}
		t.Error("a flood that is answered by resets pays for itself")
	})
	t.Run("trailers open no stream again", func(t *testing.T) {
		m := newMeter(0, 16<<10, false)
		m.filter(frameOn(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 5))
		m.filter(frameOn(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 5))
		if len(m.streams.open) != 0 {
			t.Error("a stream that is over is open again")
		}
	})
}

// TestInflow: what is held is what has come and not been given back, however
// the frames are cut.
func TestInflow(t *testing.T) {
	update := func(stream, n uint32) []byte {
		f := frameOn(stream, http2.FrameWindowUpdate, 0, 4)
		binary.BigEndian.PutUint32(f[frameHeaderLen:], n)
		return f
	}
	m := newMeter(0, 16<<10, false)
	var told int64
	m.inflow.changed = func(delta int64) { told += delta }
	send := func(b []byte) {
		for len(b) > 0 {
			n := min(3, len(b))
			m.sent(b[:n])
			b = b[n:]
		}
	}
	check := func(want int64) {
		t.Helper()
		if got := m.inflow.held(); got != want || told != want {
			t.Errorf("%d bytes are held, %d reported, want %d", got, told, want)
		}
	}
	send(append(frame(http2.FrameSettings, 0, 6), update(0, 1<<20)...))
	check(0)
	m.filter(frameOn(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 5))
	m.filter(frameOn(1, http2.FrameData, 0, 1000))
	m.filter(frameOn(1, http2.FrameData, 0, 500))
	check(1500)
	send(update(1, 700)) // a stream's own window
	check(1500)
	send(update(0, 700))
	check(800)
	send(update(0, 800))
	check(0)
}
