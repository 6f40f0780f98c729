package h2conn

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
)

// Messages are framed here and not by the websocket library, which flushes a
// masked one 4 KiB at a time and has several channels for locks. What it still
// writes are control frames: pongs and the close frame.

// Opcodes (RFC 6455, section 5.2).
const (
	opText   = 1
	opBinary = 2
	opClose  = 8
	opMask   = 0xf // of the first byte

	finBit    = 0x80 // of the first byte
	maskedBit = 0x80 // of the second
)

// maxFrameOverhead is the length of the longest frame header.
const maxFrameOverhead = 14

// appendFrame appends p to dst as a message of one frame. A client has to mask
// it, with a key that nobody can foretell (RFC 6455, section 5.3).
func appendFrame(dst []byte, op byte, p []byte, masked bool) []byte {
	var mask byte
	if masked {
		mask = maskedBit
	}
	dst = append(dst, finBit|op)
	switch n := len(p); {
	case n < 126:
		dst = append(dst, mask|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(n))
	}
	if !masked {
		return append(dst, p...)
	}
	var key [4]byte
	rand.Read(key[:]) // never fails
	dst = append(dst, key[:]...)
	return appendMasked(dst, p, key)
}

// appendMasked appends p, masked with key.
func appendMasked(dst, p []byte, key [4]byte) []byte {
	var pad [256]byte // the key again and again
	n := min(len(p), len(pad))
	for i := 0; i < n; i += len(key) {
		copy(pad[i:], key[:])
	}
	at := len(dst)
	dst = append(dst, p...)
	for rest := dst[at:]; len(rest) > 0; {
		rest = rest[subtle.XORBytes(rest, rest, pad[:]):]
	}
	return dst
}
