package h2conn

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// TestWholeWrites: the answering end that has accepted writes a large message itself, where
// nothing can be handed to the kernel directly. Others do not wait for it, and all bytes
// arrive whole and in order.
func TestWholeWrites(t *testing.T) {
	a, b := net.Pipe() // takes a byte only when it is read
	defer a.Close()
	defer b.Close()
	c := newCombiner(a, 10*time.Second, false)
	c.makesLarge()
	large := make([]byte, bulkQuantum)
	for i := range large {
		large[i] = byte(i * 7)
	}
	written := make(chan error, 1)
	go func() { written <- c.writeMessage(opBinary, large, false) }()
	want := appendFrame(nil, opBinary, large, nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(b, got[:1]); err != nil {
		t.Fatal(err)
	}
	// The large one is under way now, and these return all the same.
	for _, small := range []string{"one", "two"} {
		want = appendFrame(want, opText, []byte(small), nil)
		if err := c.writeMessage(opText, []byte(small), true); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-written:
		t.Errorf("the large message has been written before it was read: %v", err)
	default:
	}
	got = append(got, make([]byte, len(want)-len(got))...)
	if _, err := io.ReadFull(b, got[1:]); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
}

// TestWholeWriteFails: an error of such a write comes with a later one, a peer that takes
// nothing ends the connection, and Close does not wait for it.
func TestWholeWriteFails(t *testing.T) {
	t.Run("timeout", func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := newCombiner(a, 20*time.Millisecond, false)
		c.makesLarge()
		_ = c.writeMessage(opBinary, make([]byte, directSize), false)
		if err := c.writeMessage(opBinary, []byte("x"), false); !errors.Is(err, errWriteTimeout) {
			t.Errorf("then %v", err)
		}
	})
	t.Run("close", func(t *testing.T) {
		a, b := net.Pipe()
		defer b.Close()
		c := newCombiner(a, time.Minute, false)
		c.makesLarge()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.writeMessage(opBinary, make([]byte, directSize), false)
		}()
		if _, err := io.ReadFull(b, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		<-done
		if err := c.writeMessage(opBinary, []byte("x"), false); err == nil {
			t.Error("then another is written")
		}
	})
}

// TestMakesLarge: messages become large where the link is fast, and only if nothing is
// being written with the old bounds.
func TestMakesLarge(t *testing.T) {
	c := newCombiner(nopWriter{}, 10*time.Second, false)
	c.makesLarge()
	if !c.whole || c.buffers != bulkBuffers {
		t.Error("it gathers little, or does not write what is large itself")
	}
	c = newCombiner(&stuckWriter{closed: make(chan struct{})}, 10*time.Second, false)
	defer c.abort(io.EOF)
	if _, err := c.Write([]byte("a pong")); err != nil {
		t.Fatal(err)
	}
	c.makesLarge()
	if c.buffers != combineBuffers || c.whole {
		t.Error("it has changed while it writes")
	}
}

type nopWriter struct{}

func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) Close() error                { return nil }
