package faultnet_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// relayed returns the two sockets at the ends of a relay, and its link.
func relayed(t *testing.T, o faultnet.Options) (dialled, accepted *net.TCPConn, l *faultnet.Link) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := faultnet.NewRelay(ln.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	d, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	a, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	// A byte each way: then the link is there for certain.
	mustWrite(t, d, []byte("?"))
	mustRead(t, a, 1)
	mustWrite(t, a, []byte("!"))
	mustRead(t, d, 1)
	return d.(*net.TCPConn), a.(*net.TCPConn), r.Links()[0]
}

// TestRelayCarries: bytes and ends pass, in each direction by itself.
func TestRelayCarries(t *testing.T) {
	f := faultnet.Faults{Delay: time.Millisecond, Jitter: time.Millisecond, Slice: 5000}
	dialled, accepted, _ := relayed(t, faultnet.Options{Seed: 1, Up: f, Down: f})
	data := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{}).Read(data)
	want := sha256.Sum256(data)
	for name, ends := range map[string][2]*net.TCPConn{"up": {dialled, accepted}, "down": {accepted, dialled}} {
		go func() {
			ends[0].Write(data)
			ends[0].CloseWrite()
		}()
		got, err := io.ReadAll(ends[1])
		if err != nil || sha256.Sum256(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestRelayStall(t *testing.T) {
	dialled, accepted, l := relayed(t, faultnet.Options{})
	l.HalfOpen()
	mustWrite(t, dialled, []byte("held"))
	accepted.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := accepted.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("in a stall: %d, %v", n, err)
	}
	accepted.SetReadDeadline(time.Time{})
	dialled.CloseWrite() // is held too
	l.Up.Resume()
	l.Down.Resume()
	if got, err := io.ReadAll(accepted); string(got) != "held" || err != nil {
		t.Errorf("after it: %q, %v", got, err)
	}
}

// TestRelayBackPressure: a stalled relay takes its buffer and those of the
// sockets, and no more.
func TestRelayBackPressure(t *testing.T) {
	dialled, _, l := relayed(t, faultnet.Options{})
	l.HalfOpen()
	dialled.SetWriteDeadline(time.Now().Add(time.Second))
	n, err := io.Copy(dialled, io.LimitReader(zeros{}, 1<<30))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n < 256<<10 || n > 64<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRelayReset(t *testing.T) {
	dialled, accepted, l := relayed(t, faultnet.Options{})
	l.Reset()
	for name, c := range map[string]net.Conn{"dialled": dialled, "accepted": accepted} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRelayPassesResets: so it does those of an end.
func TestRelayPassesResets(t *testing.T) {
	dialled, accepted, _ := relayed(t, faultnet.Options{})
	dialled.SetLinger(0)
	dialled.Close()
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

func TestRelayCut(t *testing.T) {
	dialled, accepted, l := relayed(t, faultnet.Options{})
	l.Down.CutAfter(10)
	mustWrite(t, accepted, bytes.Repeat([]byte("x"), 100))
	if got, err := io.ReadAll(dialled); len(got) != 10 || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestRelayRefuses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r, err := faultnet.NewRelay(ln.Addr().String(), faultnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, refuse := range []bool{true, false} {
		r.Refuse(refuse)
		c, err := net.Dial("tcp", r.Addr())
		if refuse && err != nil {
			continue // a reset that was that fast
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if refuse {
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes", n)
			}
			continue
		}
		mustWrite(t, c, []byte("x"))
		for a := net.Conn(nil); a == nil; {
			if a, err = ln.Accept(); err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			if _, err := io.ReadFull(a, make([]byte, 1)); err != nil {
				a = nil // of the one that was refused
			}
		}
	}
}
