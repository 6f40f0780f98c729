package reliability

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// payload is a body that can be made again from two numbers, so that each end
// can check every byte without ever holding it.
type payload struct{ seed, size uint64 }

// reader returns the body.
func (p payload) reader() io.Reader {
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(p.seed), byte(p.seed>>8), byte(p.seed>>16), byte(p.seed>>24)
	return io.LimitReader(rand.NewChaCha8(key), int64(p.size))
}

// bytes returns the body.
func (p payload) bytes() []byte {
	b, err := io.ReadAll(p.reader())
	if err != nil {
		panic(err) // ChaCha8 has none
	}
	return b
}

var errWrongBytes = errors.New("wrong bytes")

// check reads r to its end and compares it with the body. The error wraps
// errWrongBytes if what came is not a beginning of the body, or not all of it
// although r ended without an error.
func (p payload) check(r io.Reader) error {
	want := p.reader()
	got, ref := make([]byte, 16<<10), make([]byte, 16<<10)
	for at := 0; ; {
		n, err := r.Read(got)
		m, _ := io.ReadFull(want, ref[:n])
		if m < n || !bytes.Equal(got[:n], ref[:n]) {
			return fmt.Errorf("%w after %d of %d", errWrongBytes, at, p.size)
		}
		at += n
		switch {
		case err == io.EOF && uint64(at) != p.size:
			return fmt.Errorf("%w: an end after %d of %d that looks right", errWrongBytes, at, p.size)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
