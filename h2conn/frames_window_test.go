package h2conn

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// windowMeter is a meter of the asking end whose windows grow, with a clock.
func windowMeter(rtt time.Duration) (m *meter, now *time.Time) {
	m = testMeter()
	m.first = true
	m.out.skip = 0
	at := time.Unix(1000, 0)
	m.now = func() time.Time { return at }
	m.grows(newStreamWindows(askingStreamWindow, askingConnWindow))
	m.inflow.granted(askingConnWindow)
	m.sent(frame(http2.FrameSettings, 0, 0))
	at = at.Add(rtt)
	m.filter(frame(http2.FrameSettings, http2.FlagSettingsAck, 0))
	return m, &at
}

// windowUpdate is what x/net sends when n bytes have been read.
func windowUpdate(stream uint32, n int) []byte { return appendWindowUpdate(nil, stream, int64(n)) }

func openStream(m *meter, stream uint32) {
	m.sent(frameOn(stream, http2.FrameHeaders, http2.FlagHeadersEndHeaders, 20))
}

// receive makes n bytes come on stream, each 16 KiB of them after step, and be
// read at once or not at all. It reports whether the windows admit them.
func receive(m *meter, now *time.Time, stream uint32, n int, step time.Duration, read bool) bool {
	const piece = 16 << 10
	data := frameOn(stream, http2.FrameData, 0, piece)
	for ; n > 0; n -= piece {
		*now = now.Add(step)
		if _, ok := m.filter(data); !ok {
			return false
		}
		if read {
			m.sent(windowUpdate(0, piece))
			m.sent(windowUpdate(stream, piece))
		}
	}
	return true
}

// TestWindowGrows to what the link carries, where the stream is read, and not
// otherwise.
func TestWindowGrows(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rtt, step time.Duration // step is how long 16 KiB take
		most      int64         // of growth
		least     int64
	}{
		"100 ms, 160 MB/s": {100 * time.Millisecond, 100 * time.Microsecond, askingStreamWindow, askingStreamWindow},
		"100 ms, 16 MB/s":  {100 * time.Millisecond, time.Millisecond, 4 << 20, 3 << 20},
		"40 ms, 20 Mbit/s": {40 * time.Millisecond, 6500 * time.Microsecond, 256 << 10, 256 << 10},
		"0.1 ms, 160 MB/s": {100 * time.Microsecond, 100 * time.Microsecond, 2 << 20, 1 << 20},
		"0.1 ms, 16 MB/s":  {100 * time.Microsecond, time.Millisecond, 256 << 10, 256 << 10},
		"unknown":          {0, 100 * time.Microsecond, 256 << 10, 256 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			m, now := windowMeter(tc.rtt)
			if tc.rtt == 0 {
				m.streams.rtt = roundTrip{}
			}
			openStream(m, 1)
			if !receive(m, now, 1, 64<<20, tc.step, true) {
				t.Fatal(m.fault)
			}
			window := m.streams.windows.first + m.streams.open[1].grown
			if window < tc.least || window > tc.most {
				t.Errorf("the window is %d, want %d to %d", window, tc.least, tc.most)
			}
			var told int64 // to the peer
			for b := m.out.due; len(b) > 0; b = b[frameHeaderLen+4:] {
				told += int64(binary.BigEndian.Uint32(b[frameHeaderLen:]))
			}
			if want := window - m.streams.windows.first; told != want {
				t.Errorf("the peer is told of %d more, want %d", told, want)
			}
		})
	}
}

// TestWindowsStayWithinConnection: whatever has grown and is then not read any
// more, each of maxOpen streams gets its first window, also when such streams are
// over and others take their place.
func TestWindowsStayWithinConnection(t *testing.T) {
	t.Parallel()
	m, now := windowMeter(100 * time.Millisecond)
	stream := uint32(1)
	for range 3 * maxOpen {
		openStream(m, stream)
		if !receive(m, now, stream, 32<<20, 10*time.Microsecond, true) {
			t.Fatal(m.fault)
		}
		w := m.streams.open[stream]
		if !receive(m, now, stream, int(w.credit/(16<<10))*(16<<10), 0, false) {
			t.Fatal(m.fault)
		}
		if stream > 2*(maxOpen-1) { // the oldest is read to its end, and makes room
			old := stream - 2*(maxOpen-1)
			m.sent(windowUpdate(0, int(m.inflow.held()/maxOpen)))
			m.filter(frameOn(old, http2.FrameRSTStream, 0, 4))
		}
		if held := m.inflow.held(); held > askingConnWindow {
			t.Fatalf("%d streams hold %d bytes", len(m.streams.open), held)
		}
		stream += 2
	}
}

// TestWindowExceeded: what a peer sends beyond the window that it was told of
// ends the connection, although x/net knows of a larger one.
func TestWindowExceeded(t *testing.T) {
	t.Parallel()
	m, now := windowMeter(time.Millisecond)
	openStream(m, 1)
	if !receive(m, now, 1, 256<<10, 0, false) {
		t.Fatal("a whole window was refused: " + m.fault)
	}
	if receive(m, now, 1, 16<<10, 0, false) {
		t.Error("more than the window was admitted")
	}
}

// TestFirstWindow: the SETTINGS that the peer sees name the first window and
// are otherwise x/net's, in whatever pieces they are written.
func TestFirstWindow(t *testing.T) {
	t.Parallel()
	settings := func(window uint32) []byte {
		b := []byte{0, 0, 18, byte(http2.FrameSettings), 0, 0, 0, 0, 0}
		for _, s := range []http2.Setting{
			{ID: http2.SettingMaxConcurrentStreams, Val: uint32(http2.SettingInitialWindowSize)},
			{ID: http2.SettingInitialWindowSize, Val: window},
			{ID: http2.SettingMaxFrameSize, Val: 1 << 16},
		} {
			b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(b, uint16(s.ID)), s.Val)
		}
		return b
	}
	want := string(settings(256<<10)) + string(settings(1))
	for size := 1; size < len(want); size++ {
		m := testMeter()
		m.out.skip = 0
		m.grows(newStreamWindows(askingStreamWindow, askingConnWindow))
		b := append(settings(askingStreamWindow), settings(1)...) // the second is not the first
		for rest := b; len(rest) > 0; {
			n := min(size, len(rest))
			m.sent(rest[:n])
			rest = rest[n:]
		}
		if string(b) != want {
			t.Fatalf("in pieces of %d: % x\nwant % x", size, b, want)
		}
	}
}

// updatesIn returns by how much the WINDOW_UPDATEs in b enlarge each window.
func updatesIn(t *testing.T, b []byte) map[uint32]int64 {
	t.Helper()
	if !onlyWindowUpdates(b) {
		t.Fatalf("%x is not only WINDOW_UPDATEs", b)
	}
	sum := make(map[uint32]int64)
	for ; len(b) > 0; b = b[windowUpdateLen:] {
		sum[streamOf(b)] += int64(binary.BigEndian.Uint32(b[frameHeaderLen:]))
	}
	return sum
}

// TestWindowUpdatesWait until they come to a part of the window: nothing of them is
// lost, and what the peer has not been told of is never more than that.
func TestWindowUpdatesWait(t *testing.T) {
	t.Parallel()
	const total, piece = 4 << 20, 16 << 10
	m, now := windowMeter(time.Millisecond) // too short for windows to grow
	openStream(m, 1)
	m.out.waits = true
	told := make(map[uint32]int64)
	sent := 0
	for read := int64(piece); read <= total; read += piece {
		if !receive(m, now, 1, piece, time.Millisecond, true) {
			t.Fatal("a window was exceeded")
		}
		if len(m.out.due) > 0 {
			sent++
		}
		for stream, n := range updatesIn(t, m.out.due) {
			told[stream] += n
		}
		m.out.due = m.out.due[:0]
		if owed := read - told[1]; owed < 0 || owed >= m.streams.windows.first/lagPart {
			t.Fatalf("of the stream, %d of %d bytes wait", owed, read)
		}
		if owed := read - told[0]; owed < 0 || owed >= m.streams.windows.lag {
			t.Fatalf("of the connection, %d of %d bytes wait", owed, read)
		}
	}
	if most := total / int(m.streams.windows.first/lagPart); sent > most {
		t.Errorf("%d times something was sent, want %d at most", sent, most)
	}
}

// TestWindowUpdatesOfOthersPass: what x/net says of streams that are over, and of
// connections whose windows do not grow, goes out as it is.
func TestWindowUpdatesOfOthersPass(t *testing.T) {
	t.Parallel()
	m, _ := windowMeter(time.Millisecond)
	m.out.waits = true
	m.sent(windowUpdate(7, 4096))
	if told := updatesIn(t, m.out.due); told[7] != 4096 {
		t.Errorf("of a stream that is not open, %d bytes are told of at once, want 4096", told[7])
	}
	if w := newStreamWindows(64<<10, 250*64<<10); w.lag != 0 {
		t.Errorf("where windows do not grow, %d bytes may wait", w.lag)
	}
	for _, p := range [][]byte{windowUpdate(1, 5)[:windowUpdateLen-1], frame(http2.FrameData, 0, 4), append(windowUpdate(1, 5), frame(http2.FramePing, 0, 8)...)} {
		if onlyWindowUpdates(p) {
			t.Errorf("%x is taken for WINDOW_UPDATEs alone", p)
		}
	}
}
