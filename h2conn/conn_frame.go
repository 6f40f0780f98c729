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

// maskKeys are the keys of a client's messages, which nobody may foretell (RFC 6455,
// section 5.3). They are made for many messages at a time.
type maskKeys struct {
	made []byte
	left []byte
	pad  [64]byte // a key again and again, for long messages
}

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
	dst = append(dst, finBit|op)
	switch n := len(p); {
	case n < 126:
		dst = append(dst, mask|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, mask|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, mask|127), uint64(n))
	}
	if keys == nil {
		return append(dst, p...)
	}
	key := keys.next()
	dst = append(dst, key[:]...)
	return keys.appendMasked(dst, p, key)
}

// maxWordwise is up to how many bytes are masked a word at a time: what x/net gathers
// of small frames.
const maxWordwise = 4 << 10

// appendMasked appends p, masked with key. It needs little stack for few bytes: x/net
// writes from new goroutines, and to let their stacks grow costs more than all of this.
func (k *maskKeys) appendMasked(dst, p []byte, key [4]byte) []byte {
	at := len(dst)
	dst = append(dst, p...)
	rest := dst[at:]
	if len(rest) <= maxWordwise {
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
	for i := 0; i < len(k.pad); i += len(key) {
		copy(k.pad[i:], key[:])
	}
	for len(rest) > 0 {
		rest = rest[subtle.XORBytes(rest, rest, k.pad[:]):]
	}
	return dst
}
