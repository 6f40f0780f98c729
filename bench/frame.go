package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// maxFrame bounds the payload of frames that are read.
const maxFrame = 1 << 20

// readFrame reads one websocket frame and returns its payload, unmasked. It
// takes data frames only.
func readFrame(r *bufio.Reader) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if op := head[0] & 0x0f; op > 2 {
		return nil, fmt.Errorf("websocket frame with opcode %d", op)
	}
	n := uint64(head[1] & 0x7f)
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		n = binary.BigEndian.Uint64(b[:])
	}
	if n > maxFrame {
		return nil, fmt.Errorf("websocket frame of %d bytes: at most %d are taken", n, maxFrame)
	}
	var mask [4]byte
	masked := head[1]&0x80 != 0
	if masked {
		if _, err := io.ReadFull(r, mask[:]); err != nil {
			return nil, err
		}
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	if mask != [4]byte{} {
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
	}
	return payload, nil
}

// appendFrame appends a binary websocket frame. Masked frames have the mask
// zero, which costs neither end anything.
func appendFrame(b, payload []byte, masked bool) []byte {
	var bit byte
	if masked {
		bit = 0x80
	}
	b = append(b, 0x82)
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = append(b, bit|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, bit|127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}
