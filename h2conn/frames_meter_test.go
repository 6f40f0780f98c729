package h2conn

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// testMeter is one at the asking end whose clock stands still.
func testMeter() *meter {
	m := newMeter(0, 16<<10, true)
	m.now = func() time.Time { return m.last }
	return m
}

// through sends stream through m in pieces of the sizes that cut returns, as
// http2Conn does, and returns what comes out and whether the budget held.
func through(m *meter, stream []byte, cut func() int) (out []byte, ok bool) {
	buf := make([]byte, 1<<10)
	for len(stream) > 0 {
		held := m.held(buf)
		n := copy(buf[held:held+max(1, min(cut(), len(buf)-held))], stream)
		stream = stream[n:]
		k, ok := m.filter(buf[:held+n])
		out = append(out, buf[:k]...)
		if !ok {
			return out, false
		}
	}
	return out, true
}

func frame(kind http2.FrameType, flags http2.Flags, length int) []byte {
	return frameOn(1, kind, flags, length)
}

func frameOn(stream uint32, kind http2.FrameType, flags http2.Flags, length int) []byte {
	b := make([]byte, frameHeaderLen+length)
	binary.BigEndian.PutUint32(b, uint32(length)<<8|uint32(kind))
	b[4] = byte(flags)
	binary.BigEndian.PutUint32(b[5:], stream)
	return b
}

// paddedData is a DATA frame of data bytes and as many of padding.
func paddedData(data, padding int) []byte {
	b := frame(http2.FrameData, http2.FlagDataPadded, 1+data+padding)
	b[frameHeaderLen] = byte(padding)
	return b
}

// TestMeterPaddingInPieces: the length of the padding may come later than the
// frame's header.
func TestMeterPaddingInPieces(t *testing.T) {
	m := testMeter()
	m.first = true
	m.streams.sent(http2.FrameHeaders, 1, true)
	for range 10 {
		for _, f := range [][]byte{paddedData(0, 30), paddedData(40, 30)} {
			if _, ok := through(m, f, func() int { return 1 }); !ok {
				t.Fatal("over the budget")
			}
		}
	}
	if spent := glitchBurst - m.budget; spent != 10 {
		t.Errorf("ten glitches cost %d", spent)
	}
}

// TestMeterFirstFrame: an acknowledgement is no SETTINGS frame of the peer's own.
func TestMeterFirstFrame(t *testing.T) {
	settings, ack := frameOn(0, http2.FrameSettings, 0, settingLen), frameOn(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	for _, asking := range []bool{true, false} {
		for _, tc := range []struct {
			name   string
			frames [][]byte
			ok     bool
		}{
			{"its own", [][]byte{settings, ack}, true},
			{"an acknowledgement", [][]byte{ack, settings}, false},
		} {
			m := newMeter(0, 16<<10, asking)
			if _, ok := through(m, bytes.Join(tc.frames, nil), func() int { return 5 }); ok != tc.ok {
				t.Errorf("%s first, asking %t: taken %t (%s)", tc.name, asking, ok, m.fault)
			}
		}
	}
}

// TestMeterFloods: what is nothing but overhead is over the budget after
// glitchBurst at most, and what carries something never is.
func TestMeterFloods(t *testing.T) {
	for _, tc := range []struct {
		name  string
		frame []byte
		most  int // frames before the budget is over; 0: never
	}{
		{"PING", frame(http2.FramePing, 0, 8), 2001},
		{"PING ack", frame(http2.FramePing, http2.FlagPingAck, 8), 2001},
		{"SETTINGS", frame(http2.FrameSettings, 0, 0), 2001},
		{"large SETTINGS", frame(http2.FrameSettings, 0, 12<<10), 200},
		{"GOAWAY", frame(http2.FrameGoAway, 0, 8), 2001},
		{"PUSH_PROMISE", frame(http2.FramePushPromise, 0, 8), 2001},
		{"WINDOW_UPDATE", frame(http2.FrameWindowUpdate, 0, 4), 10_001},
		{"RST_STREAM", frame(http2.FrameRSTStream, 0, 4), 10_001},
		{"PRIORITY", frame(http2.FramePriority, 0, 5), 10_001},
		{"unknown", frame(0x42, 0, 0), 10_001},
		{"large unknown", frame(0x42, 0, 16<<10), 2001},
		{"empty DATA", frame(http2.FrameData, 0, 0), 10_001},
		{"the ends of streams", frame(http2.FrameData, http2.FlagDataEndStream, 0), 10_001},
		{"DATA of padding alone", paddedData(0, 255), 10_001},
		{"DATA of the length of no padding", paddedData(0, 0), 10_001},
		{"DATA of padding alone, aligned", paddedData(0, 6), 10_001},
		{"DATA with more padding than data", paddedData(254, 254), 10_001},
		{"DATA of one byte with much padding", paddedData(1, 8), 10_001},
		{"DATA with more padding than there is", append(frame(http2.FrameData, http2.FlagDataPadded, 0)[:2], 2, 0, 8, 0, 0, 0, 1, 9, 0), 10_001},
		{"DATA with as much padding as data", paddedData(255, 254), 0},
		{"DATA of one byte, aligned", paddedData(1, 6), 0},
		{"DATA of an event, aligned", paddedData(12, 2), 0},
		{"HEADERS", frame(http2.FrameHeaders, 0, 10), 10_001},
		{"large HEADERS", frame(http2.FrameHeaders, 0, 16<<10), 2001},
		{"CONTINUATION", frame(http2.FrameContinuation, 0, 0), 10_001},
		{"DATA of one byte for no stream", frameOn(3, http2.FrameData, 0, 1), 10_001},
		{"DATA of 16 KiB for no stream", frameOn(3, http2.FrameData, 0, 16<<10), 2001},
		{"DATA of one byte", frame(http2.FrameData, 0, 1), 0},
		{"DATA of 16 KiB", frame(http2.FrameData, 0, 16<<10), 0},
		{"DATA of 16 KiB, padded", frame(http2.FrameData, http2.FlagDataPadded, 16<<10), 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := testMeter()
			m.first = true
			m.streams.sent(http2.FrameHeaders, 1, true)
			buf := make([]byte, len(tc.frame))
			for n := range 50_000 {
				copy(buf, tc.frame)
				if _, ok := m.filter(buf); !ok {
					if n+1 > tc.most || tc.most == 0 {
						t.Errorf("the budget was over after %d frames, want %d", n+1, tc.most)
					}
					return
				}
			}
			if tc.most != 0 {
				t.Error("50,000 frames were within the budget")
			}
		})
	}
}

// TestMeterEarns: time, bytes sent and requests pay for glitches, up to a
// burst.
func TestMeterEarns(t *testing.T) {
	m := testMeter()
	now := m.last
	m.now = func() time.Time { return now }
	if !m.spend(glitchBurst) || m.spend(1) {
		t.Fatal("the burst is not what it should be")
	}
	m.budget = 0
	now = now.Add(time.Second)
	if !m.spend(glitchRate) || m.spend(1) {
		t.Error("a second does not earn what it should")
	}
	m.budget = 0
	sent := append([]byte(http2.ClientPreface), frame(http2.FrameHeaders, 0, 30)...)
	sent = append(sent, frame(http2.FrameData, 0, 1)...)
	sent = append(sent, frame(http2.FrameSettings, http2.FlagSettingsAck, 0)...)
	sent = append(sent, frame(http2.FramePing, http2.FlagPingAck, 8)...)
	sent = append(sent, frame(http2.FrameWindowUpdate, 0, 4)...)
	sent = append(sent, frame(http2.FramePing, 0, 8)...)
	for i := range sent {
		m.sent(sent[i : i+1])
	}
	if !m.spend(requestGlitch+dataGlitch+heavyGlitch) || m.spend(1) {
		t.Error("a request, a byte of its body and a ping do not earn what they should")
	}
	m.budget = 0
	now = now.Add(time.Hour)
	if !m.spend(glitchBurst) || m.spend(1) {
		t.Error("an hour earns more than a burst")
	}
	m.budget = 0
	piece := frame(http2.FrameData, 0, 16<<10)
	for range 1 << 16 { // a gigabyte
		m.sent(piece)
	}
	if !m.spend(maxGlitches) || m.spend(1) {
		t.Error("a gigabyte does not earn what it should")
	}
}

// TestMeterFullWindows: requests that fill all windows before anybody reads them
// are answered by a burst of window updates that is paid for.
func TestMeterFullWindows(t *testing.T) {
	m := testMeter()
	m.first = true
	piece := frame(http2.FrameData, 0, 4<<10)
	m.sent([]byte(http2.ClientPreface))
	for range askingConnWindow / (4 << 10) {
		m.sent(piece)
	}
	update := frame(http2.FrameWindowUpdate, 0, 4)
	buf := make([]byte, len(update))
	for n := range 2 * askingConnWindow / (4 << 10) {
		copy(buf, update)
		if _, ok := m.filter(buf); !ok {
			t.Fatalf("the budget was over after %d window updates", n)
		}
	}
}

// TestMeterDrops: frames that a client has no use for do not get as far as
// x/net, which would log each, unless x/net is to end the connection for them.
func TestMeterDrops(t *testing.T) {
	settings, data := frame(http2.FrameSettings, 0, 6), frame(http2.FrameData, 0, 5)
	unknown, priority := frame(0x42, 0, 100), frame(http2.FramePriority, 0, 5)
	huge := frame(0x42, 0, 17<<10)
	onConnection := frame(http2.FramePriority, 0, 5)
	onConnection[8] = 0 // a stream that is none
	headers, continuation := frame(http2.FrameHeaders, 0, 3), frame(http2.FrameContinuation, 0, 3)
	ended := frame(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3)
	for name, tc := range map[string]struct{ in, want []byte }{
		"between":   {bytes.Join([][]byte{settings, unknown, data, priority, unknown, data}, nil), bytes.Join([][]byte{settings, data, data}, nil)},
		"first":     {bytes.Join([][]byte{unknown, settings}, nil), bytes.Join([][]byte{unknown, settings}, nil)},
		"malformed": {bytes.Join([][]byte{settings, frame(http2.FramePriority, 0, 4), onConnection}, nil), bytes.Join([][]byte{settings, frame(http2.FramePriority, 0, 4), onConnection}, nil)},
		"in a header block": {
			bytes.Join([][]byte{settings, headers, unknown, continuation, priority, ended, unknown, data}, nil),
			bytes.Join([][]byte{settings, headers, unknown, continuation, priority, ended, data}, nil),
		},
		"over limit": {bytes.Join([][]byte{settings, huge}, nil), bytes.Join([][]byte{settings, huge}, nil)},
	} {
		for cut := 1; cut < 30; cut++ {
			if got, ok := through(testMeter(), tc.in, func() int { return cut }); !ok || !bytes.Equal(got, tc.want) {
				t.Errorf("%s, in pieces of %d: got %d bytes, %v; want %d", name, cut, len(got), ok, len(tc.want))
			}
		}
	}
	answering := newMeter(3, 16<<10, false)
	in := bytes.Join([][]byte{[]byte("PRI"), settings, unknown, priority}, nil)
	if got, ok := through(answering, in, func() int { return 2 }); !ok || !bytes.Equal(got, in) {
		t.Error("the answering end drops frames, which x/net's Server handles in silence")
	}
}

// TestMeterAllocates nothing.
func TestMeterAllocates(t *testing.T) {
	m := testMeter()
	b := bytes.Join([][]byte{frame(http2.FrameSettings, 0, 6), frame(http2.FrameData, 0, 900)}, nil)
	if n := testing.AllocsPerRun(100, func() { m.filter(b) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzMeter: whatever comes, and however it is cut, the verdict and what goes
// on are the same.
func FuzzMeter(f *testing.F) {
	valid := bytes.Join([][]byte{
		frame(http2.FrameSettings, 0, 6), frame(http2.FrameHeaders, 4, 30), frame(0x42, 0, 7),
		frame(http2.FrameData, 0, 50), frame(http2.FramePing, 0, 8), frame(http2.FramePriority, 0, 5),
	}, nil)
	f.Add(valid, uint64(1), int64(glitchBurst), false)
	f.Add(valid, uint64(2), int64(7), true)
	f.Add(valid[:len(valid)-3], uint64(3), int64(30), false)
	f.Add([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), uint64(4), int64(0), true)
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64, budget int64, answering bool) {
		fresh := func() *meter {
			m := testMeter()
			if answering {
				m.drops, m.requests, m.skip = false, true, len(http2.ClientPreface)
			}
			m.budget = min(max(budget, 0), glitchBurst)
			return m
		}
		want, wantOK := through(fresh(), stream, func() int { return 1 << 20 })
		rng := rand.New(rand.NewPCG(seed, 1))
		for _, cut := range []func() int{
			func() int { return 1 },
			func() int { return 1 + rng.IntN(20) },
		} {
			got, ok := through(fresh(), stream, cut)
			if ok != wantOK || !bytes.Equal(got, want) {
				t.Fatalf("cut otherwise: %d bytes, %v; at first %d bytes, %v", len(got), ok, len(want), wantOK)
			}
		}
		if wantOK && len(want) > len(stream) {
			t.Fatal("there is more than there was")
		}
	})
}

// TestFrameReaderSmallReads: reads that have no room for a frame header get the
// same bytes.
func TestFrameReaderSmallReads(t *testing.T) {
	stream := bytes.Join([][]byte{frame(http2.FrameSettings, 0, 6), frame(0x42, 0, 100), frame(http2.FrameData, 0, 50)}, nil)
	want := bytes.Join([][]byte{frame(http2.FrameSettings, 0, 6), frame(http2.FrameData, 0, 50)}, nil)
	for size := 1; size < 60; size++ {
		c := &frameReader{source: bytes.NewReader(stream), peer: newPeerSettings(0), meter: testMeter()}
		got, err := io.ReadAll(struct{ io.Reader }{readerFunc(func(p []byte) (int, error) { return c.Read(p[:min(size, len(p))]) })})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("in reads of %d: %d bytes, %v; want %d", size, len(got), err, len(want))
		}
	}
}

func BenchmarkMeter(b *testing.B) {
	stream := bytes.Join([][]byte{frame(http2.FrameSettings, 0, 6), frame(http2.FrameData, 0, 4<<10), frame(http2.FrameData, 0, 16<<10)}, nil)
	m := testMeter()
	m.drops = false
	b.SetBytes(int64(len(stream)))
	b.ReportAllocs()
	for b.Loop() {
		m.budget = glitchBurst
		if _, ok := m.filter(stream); !ok {
			b.Fatal("over the budget")
		}
	}
}
