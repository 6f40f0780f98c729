package h2conn

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// inletMeter returns a meter of the answering end, with a stream that has an inlet.
func inletMeter(t *testing.T) (*meter, *inlet) {
	m := newMeter(0, 16<<10, false)
	m.first = true
	m.grows(newStreamWindows(answeringStreamWindow, answeringConnWindow))
	m.inflow.granted(answeringConnWindow - minFirstWindow)
	if _, ok := m.filter(frameOn(1, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 20)); !ok {
		t.Fatal(m.fault)
	}
	in := newInlet(1)
	if !m.streams.take(in) {
		t.Fatal("the stream cannot be taken")
	}
	return m, in
}

func dataOf(stream uint32, flags http2.Flags, text string) []byte {
	b := frameOn(stream, http2.FrameData, flags, len(text))
	copy(b[frameHeaderLen:], text)
	return b
}

// TestInletFrames: what goes into an inlet, in frames that are cut anywhere, and what goes
// to x/net.
func TestInletFrames(t *testing.T) {
	padded := append(dataOf(1, http2.FlagDataPadded, "\x01pad"), 0)
	padded[2]++
	for name, tc := range map[string]struct {
		frames [][]byte
		into   string
		passes [][]byte
		over   bool
	}{
		"data":           {[][]byte{dataOf(1, 0, "one"), dataOf(1, 0, "two")}, "onetwo", nil, false},
		"others between": {[][]byte{dataOf(1, 0, "one"), frameOn(0, http2.FramePing, 0, 8), dataOf(3, 0, "x"), dataOf(1, 0, "two")}, "onetwo", [][]byte{frameOn(0, http2.FramePing, 0, 8), dataOf(3, 0, "x")}, false},
		"end":            {[][]byte{dataOf(1, 0, "one"), dataOf(1, http2.FlagDataEndStream, "two")}, "one", [][]byte{dataOf(1, http2.FlagDataEndStream, "two")}, true},
		"padding":        {[][]byte{dataOf(1, 0, "one"), padded, dataOf(1, 0, "three")}, "one", [][]byte{padded, dataOf(1, 0, "three")}, true},
		"empty":          {[][]byte{dataOf(1, 0, ""), dataOf(1, 0, "one")}, "", [][]byte{dataOf(1, 0, ""), dataOf(1, 0, "one")}, true},
		"reset":          {[][]byte{dataOf(1, 0, "one"), frameOn(1, http2.FrameRSTStream, 0, 4)}, "one", [][]byte{frameOn(1, http2.FrameRSTStream, 0, 4)}, true},
	} {
		for size := 1; size < 40; size++ {
			m, in := inletMeter(t)
			out, ok := through(m, bytes.Join(tc.frames, nil), func() int { return size })
			if !ok || !bytes.Equal(out, bytes.Join(tc.passes, nil)) || in.buf.String() != tc.into || in.over != tc.over {
				t.Fatalf("%s in pieces of %d: to x/net %q, into the inlet %q, over %v: %v %s", name, size, out, in.buf.String(), in.over, ok, m.fault)
			}
		}
	}
}

// TestInletWindows: x/net does not see what goes into an inlet, so the windows are kept
// here.
func TestInletWindows(t *testing.T) {
	piece := dataOf(1, 0, string(make([]byte, 16<<10)))
	fill := func(m *meter, window int64) (n int64) {
		for n = 0; n <= window+int64(len(piece)); n += 16 << 10 {
			if _, ok := m.filter(bytes.Clone(piece)); !ok {
				return n
			}
		}
		return n
	}
	m, in := inletMeter(t)
	first := m.streams.windows.first
	if n := fill(m, first); n != first || m.fault == "" {
		t.Errorf("a stream held %d bytes, with a window of %d: %q", n, first, m.fault)
	}
	// What has been read may be sent anew, in all and on the stream.
	p := make([]byte, 40<<10)
	held := m.inflow.held()
	n, returned := in.read(p)
	if n != len(p) || returned != len(p) {
		t.Errorf("read %d, returned %d", n, returned)
	}
	m.gaveBack(1, int64(n))
	if told := updatesIn(t, m.out.due); told[1] < int64(n) || m.inflow.held() != held-int64(n) {
		t.Errorf("told %v, held %d of %d", told, m.inflow.held(), held)
	}
	// One that has been closed gives back what it had.
	if rest := in.close(); int64(rest) != first-int64(n) {
		t.Errorf("closed with %d bytes, want %d", rest, first-int64(n))
	}

	m, _ = inletMeter(t)
	m.streams.open[1] = streamWindow{credit: 1 << 40, inlet: m.streams.open[1].inlet}
	if n := fill(m, answeringConnWindow); n > answeringConnWindow || m.fault == "" {
		t.Errorf("the connection held %d bytes: %q", n, m.fault)
	}
}

// TestInletsAndOthers: what x/net sees and what it does not see come out of one window.
func TestInletsAndOthers(t *testing.T) {
	m, _ := inletMeter(t)
	m.streams.open[1] = streamWindow{credit: 1 << 40, inlet: m.streams.open[1].inlet}
	m.filter(frameOn(3, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 20))
	n, text := int64(0), string(make([]byte, 16<<10))
	for stream := uint32(1); m.fault == "" && n <= 2*answeringConnWindow; n += 16 << 10 {
		if n > answeringConnWindow/2 {
			stream = 3
		}
		m.filter(dataOf(stream, 0, text))
	}
	if n > answeringConnWindow+minFirstWindow {
		t.Errorf("the connection held %d bytes: %q", n, m.fault)
	}
}

// TestInletShown: x/net sees now and then that something comes, but not within a header.
func TestInletShown(t *testing.T) {
	m, _ := inletMeter(t)
	m.lastRead, m.shows = new(atomic.Int64), int64(time.Second)
	for _, tc := range []struct {
		at    time.Duration
		block bool
		shown bool
	}{{900 * time.Millisecond, false, false}, {time.Second, true, false}, {time.Second, false, true}, {time.Second, false, false}, {1500 * time.Millisecond, false, false}, {2 * time.Second, false, true}} {
		m.lastRead.Store(int64(tc.at))
		m.block = tc.block
		b := dataOf(1, 0, "piece")
		n, ok := m.filter(b)
		if want := map[bool][]byte{true: shownFrame[:]}[tc.shown]; !ok || !bytes.Equal(b[:n], want) {
			t.Errorf("after %v, in a header %v: %q, want %q", tc.at, tc.block, b[:n], want)
		}
	}
}

// TestGiveBackWaits: one goroutine waits for a write that is under way.
func TestGiveBackWaits(t *testing.T) {
	m, _ := inletMeter(t)
	c := &http2Conn{frames: frameReader{meter: m}}
	c.writeMu.Lock()
	before := runtime.NumGoroutine()
	for range 100 {
		c.giveBack(1, 64<<10)
	}
	n := runtime.NumGoroutine() - before
	c.outMu.Lock()
	if n > 1 || len(m.out.due) == 0 {
		t.Errorf("%d goroutines wait to send %d bytes", n, len(m.out.due))
	}
	m.out.due = nil
	c.outMu.Unlock()
	c.writeMu.Unlock()
	for sends := true; sends; runtime.Gosched() {
		c.outMu.Lock()
		sends = c.sends
		c.outMu.Unlock()
	}
}

// TestInletTaken: a stream on which something has come is x/net's.
func TestInletTaken(t *testing.T) {
	m, in := inletMeter(t)
	if m.streams.take(newInlet(1)) {
		t.Error("a stream has two")
	}
	m.streams.untake(in)
	if m.streams.take(newInlet(1)) {
		t.Error("a stream has another after the first")
	}
	m.filter(frameOn(3, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 20))
	m.filter(dataOf(3, 0, "x"))
	if m.streams.take(newInlet(3)) || m.streams.take(newInlet(5)) {
		t.Error("a stream that has begun, or none, has one")
	}
	if in.close(); in.put([]byte("late")) != 4 {
		t.Error("a closed one takes bytes")
	}
}
