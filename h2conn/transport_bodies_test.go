package h2conn

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/net/http2"
)

// TestFrameLimit: x/net learns of no frame larger than plainBody, however the settings come
// in, and what it would refuse passes as it is.
func TestFrameLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ says, want, peer uint32 }{
		{16 << 10, 16 << 10, 16 << 10},
		{20_000, 20_000, 20_000},
		{1<<16 - 1, 1<<16 - 1, 1<<16 - 1},
		{plainBody, plainBody, plainBody},
		{plainBody + 1, plainBody, plainBody + 1},
		{bulkBody, plainBody, bulkBody},
		{0x20304, plainBody, 0x20304},
		{1<<24 - 1, plainBody, 1<<24 - 1},
		{1 << 24, 1 << 24, 1 << 24},       // invalid
		{1<<31 + 7, 1<<31 + 7, 1<<31 + 7}, // the same
		{3, 3, 16 << 10},                  // the same
	} {
		for piece := range 30 {
			piece++
			t.Run(fmt.Sprint(tt.says, piece), func(t *testing.T) {
				frame := []byte{0, 0, 18, byte(http2.FrameSettings), 0, 0, 0, 0, 0}
				for _, s := range []http2.Setting{
					{ID: http2.SettingInitialWindowSize, Val: 1 << 20}, {ID: http2.SettingMaxFrameSize, Val: tt.says}, {ID: http2.SettingMaxHeaderListSize, Val: 0x10203},
				} {
					frame = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(frame, uint16(s.ID)), s.Val)
				}
				m := newMeter(0, bulkBody, true)
				var got []byte
				for i := 0; i < len(frame); i += piece {
					b := make([]byte, frameHeaderLen+piece)
					held := m.held(b)
					k := copy(b[held:], frame[i:min(i+piece, len(frame))])
					n, ok := m.filter(b[:held+k])
					if !ok {
						t.Fatal(m.fault)
					}
					got = append(got, b[:n]...)
				}
				binary.BigEndian.PutUint32(frame[frameHeaderLen+6+2:], tt.want)
				if string(got) != string(frame) {
					t.Errorf("%x, want %x", got, frame)
				}
				if n := m.frames.peer(); n != tt.peer {
					t.Errorf("the peer takes %d, want %d", n, tt.peer)
				}
			})
		}
	}
}
