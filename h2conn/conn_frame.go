package h2conn

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"slices"
)

// Messages are framed here and not by the websocket library, which flushes a
// masked one 4 KiB at a time and has several channels for locks. What it still
// writes are control frames: pongs and the close frame.

// Opcodes (RFC 6455, section 5.2).
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opPing   = 9
	opMask   = 0xf // of the first byte

	finBit    = 0x80 // of the first byte
	maskedBit = 0x80 // of the second
)

// maxFrameOverhead is the length of the longest frame header.
const maxFrameOverhead = 14

// maskKeys are the keys of a client's messages, which nobody may foretell (RFC 6455,
// section 5.3). They are made for many messages at a time.
type maskKeys struct {
	made []byte
	left []byte
	pad  []byte // maskPad bytes: a key again and again, for long messages
}

const maskPad = 1 << 10

func (k *maskKeys) next() (key [4]byte) {
	if len(k.left) == 0 {
		if k.made == nil {
			k.made = make([]byte, 64*len(key))
		}
		rand.Read(k.made) // never fails
		k.left = k.made
	}
	copy(key[:], k.left)
	k.left = k.left[len(key):]
	return key
}

// appendFrame appends p to dst as a message of one frame. A client has keys, for
// it has to mask it.
func appendFrame(dst []byte, op byte, p []byte, keys *maskKeys) []byte {
	var mask byte
	if keys != nil {
		mask = maskedBit
	}
	dst = appendFrameHeader(dst, op, mask, len(p))
	if keys == nil {
		return append(dst, p...)
	}
	key := keys.next()
	dst = append(dst, key[:]...)
	return keys.appendMasked(dst, p, key)
}

// appendFrameHeader appends the header of a message of one frame with n bytes, up to the key.
func appendFrameHeader(dst []byte, op, mask byte, n int) []byte {
	dst = append(dst, finBit|op)
	switch {
	case n < 126:
		return append(dst, mask|byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(n))
	default:
		return binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(n))
	}
}

// maxWordwise is up to how many bytes are masked a word at a time: what x/net gathers
// of small frames.
const maxWordwise = 4 << 10

// appendMasked appends p, masked with key. It needs little stack for few bytes: x/net
// writes from new goroutines, and to let their stacks grow costs more than all of this.
func (k *maskKeys) appendMasked(dst, p []byte, key [4]byte) []byte {
	if len(p) > maxWordwise {
		return k.appendMaskedPad(dst, p, key)
	}
	at := len(dst)
	dst = append(dst, p...)
	rest := dst[at:]
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word |= word << 32
	for ; len(rest) >= 8; rest = rest[8:] {
		binary.LittleEndian.PutUint64(rest, binary.LittleEndian.Uint64(rest)^word)
	}
	for i := range rest {
		rest[i] ^= key[i%len(key)]
	}
	return dst
}

// appendMaskedPad copies and masks in one go.
//
//go:noinline
func (k *maskKeys) appendMaskedPad(dst, p []byte, key [4]byte) []byte {
	if k.pad == nil {
		k.pad = make([]byte, maskPad)
	}
	for n := copy(k.pad, key[:]); n < maskPad; n *= 2 {
		copy(k.pad[n:], k.pad[:n])
	}
	at := len(dst)
	dst = slices.Grow(dst, len(p))[:at+len(p)]
	for rest := dst[at:]; len(p) > 0; {
		n := subtle.XORBytes(rest, p, k.pad)
		rest, p = rest[n:], p[n:]
	}
	return dst
}
