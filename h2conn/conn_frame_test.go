package h2conn

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// TestAppendFrame reads back what it writes, by the letter of RFC 6455, section
// 5.2.
func TestAppendFrame(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 3, 4, 125, 126, 255, 256, 257, 1000, 4095, 4096, 4097, 65535, 65536, bulkQuantum + frameHeaderLen} {
		for _, masked := range []bool{false, true} {
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(rand.Uint32())
			}
			sent := bytes.Clone(p)
			var keys *maskKeys
			if masked {
				keys = new(maskKeys)
			}
			b := appendFrame([]byte("before"), opBinary, p, keys)
			if !bytes.Equal(p, sent) {
				t.Fatalf("%d bytes: the caller's bytes have changed", n)
			}
			b = bytes.TrimPrefix(b, []byte("before"))
			overhead := len(b) - n
			if b[0] != 0x82 || (b[1]&0x80 != 0) != masked || overhead > maxFrameOverhead {
				t.Fatalf("%d bytes, masked %v: the header is % x", n, masked, b[:min(len(b), maxFrameOverhead)])
			}
			length := uint64(b[1] & 0x7f)
			b = b[2:]
			switch length {
			case 126:
				length = uint64(binary.BigEndian.Uint16(b))
				b = b[2:]
			case 127:
				length = binary.BigEndian.Uint64(b)
				b = b[8:]
			}
			if masked {
				key := b[:4]
				b = b[4:]
				for i := range b {
					b[i] ^= key[i%4]
				}
			}
			if length != uint64(n) || !bytes.Equal(b, sent) {
				t.Errorf("%d bytes, masked %v: %d others arrive", n, masked, length)
			}
		}
	}
}
