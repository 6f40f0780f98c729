package h2conn

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"testing/iotest"
)

// body is a source that remembers how it was read.
type body struct {
	io.Reader
	asked  []int
	closed bool
}

func (b *body) Read(p []byte) (int, error) {
	b.asked = append(b.asked, len(p))
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.Reader.Read(p)
}

func (b *body) Close() error { b.closed = true; return nil }

// TestWideBody passes all bytes in order, then the source's error, and asks the
// source for little at first and for much once there is much.
func TestWideBody(t *testing.T) {
	data := make([]byte, 200<<10)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	broken := errors.New("broken")
	for name, source := range map[string]func(io.Reader) io.Reader{
		"whole":          func(r io.Reader) io.Reader { return r },
		"one byte":       iotest.OneByteReader,
		"halves":         iotest.HalfReader,
		"error with it":  iotest.DataErrReader,
		"broken":         func(r io.Reader) io.Reader { return io.MultiReader(r, iotest.ErrReader(broken)) },
		"broken with it": func(r io.Reader) io.Reader { return iotest.DataErrReader(io.MultiReader(r, iotest.ErrReader(broken))) },
	} {
		for _, piece := range []int{1, 100, 4 << 10, 5000, minWideRead, 100 << 10} {
			src := &body{Reader: source(bytes.NewReader(data))}
			b := widen(&http.Request{Body: src, ContentLength: -1}, 1<<20)
			var got bytes.Buffer
			_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{b}, make([]byte, piece))
			if want := map[bool]error{true: broken}[name[:3] == "bro"]; !errors.Is(err, want) {
				t.Errorf("%s, %d: %v, want %v", name, piece, err, want)
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%s, %d: %d bytes, or others", name, piece, got.Len())
			}
			if first := src.asked[0]; piece < minWideRead && first != firstRead {
				t.Errorf("%s, %d: asks for %d first", name, piece, first)
			}
			if name == "whole" && len(src.asked) > 3+len(data)/minWideRead {
				t.Errorf("%s, %d: %d reads", name, piece, len(src.asked))
			}
			if last := src.asked[len(src.asked)-1]; name == "one byte" && piece < minWideRead && last != firstRead {
				t.Errorf("%s, %d: asks for %d of a slow source", name, piece, last)
			}
			if n, again := b.Read(make([]byte, 1)); n != 0 || again == nil {
				t.Errorf("%s, %d: after the end %d, %v", name, piece, n, again)
			}
		}
	}

	src := &body{Reader: bytes.NewReader(data)}
	b := widen(&http.Request{Body: src, ContentLength: -1}, 1<<20)
	b.Read(make([]byte, 1))
	b.Close()
	if n, err := b.Read(make([]byte, 1)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
		t.Errorf("after Close: %d, %v", n, err)
	}

	// Larger windows, larger pieces; small bodies as they are.
	src = &body{Reader: bytes.NewReader(data)}
	b = widen(&http.Request{Body: src, ContentLength: -1}, 1<<30)
	io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{b}, make([]byte, 100))
	if most := src.asked[len(src.asked)-1]; (1<<30)/most > maxUpdates {
		t.Errorf("pieces of %d with a window of 1 GiB", most)
	}
	if b := widen(&http.Request{Body: http.NoBody}, 1<<20); b != http.NoBody {
		t.Errorf("no body becomes %T", b)
	}
}
