package faultnet_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/websocktunnel/websocktunnel/internal/faultnet"
)

// TestNetConn: without faults, a Conn is a net.Conn like any other.
func TestNetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		c1, c2 = faultnet.Pair(faultnet.Options{})
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

// bubble runs f in a synctest bubble with the two ends of a link.
func bubble(t *testing.T, o faultnet.Options, f func(t *testing.T, dialled, accepted *faultnet.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dialled, accepted := faultnet.Pair(o)
		defer dialled.Close()
		defer accepted.Close()
		f(t, dialled, accepted)
	})
}

// took returns how long f takes on the bubble's clock.
func took(f func()) time.Duration {
	begun := time.Now()
	f()
	return time.Since(begun)
}

func mustWrite(t *testing.T, c net.Conn, p []byte) {
	t.Helper()
	if n, err := c.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write of %d bytes: %d, %v", len(p), n, err)
	}
}

func mustRead(t *testing.T, c net.Conn, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatalf("reading %d bytes: %v", n, err)
	}
	return p
}

func TestDelay(t *testing.T) {
	o := faultnet.Options{Up: faultnet.Faults{Delay: 100 * time.Millisecond}}
	bubble(t, o, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		d := took(func() {
			mustWrite(t, dialled, []byte("ping"))
			mustRead(t, accepted, 4)
		})
		if d != 100*time.Millisecond {
			t.Errorf("up took %v", d)
		}
		d = took(func() {
			mustWrite(t, accepted, []byte("pong"))
			mustRead(t, dialled, 4)
		})
		if d != 0 {
			t.Errorf("down took %v", d)
		}
		// The end of a direction is behind its bytes.
		mustWrite(t, dialled, []byte("bye"))
		dialled.CloseWrite()
		if got, err := io.ReadAll(accepted); string(got) != "bye" || err != nil {
			t.Errorf("the rest is %q, %v", got, err)
		}
	})
}

// TestJitter: each piece has its own delay, none overtakes another, and the
// same seed gives the same delays.
func TestJitter(t *testing.T) {
	arrivals := func(seed uint64) (times []time.Duration) {
		f := faultnet.Faults{Delay: time.Second, Jitter: time.Second}
		bubble(t, faultnet.Options{Seed: seed, Up: f}, func(t *testing.T, dialled, accepted *faultnet.Conn) {
			for i := range 100 {
				begun := time.Now()
				mustWrite(t, dialled, []byte{byte(i)})
				if got := mustRead(t, accepted, 1); got[0] != byte(i) {
					t.Fatalf("byte %d is %d", i, got[0])
				}
				times = append(times, time.Since(begun))
			}
		})
		return times
	}
	a, b, c := arrivals(1), arrivals(1), arrivals(2)
	if !slices.Equal(a, b) {
		t.Error("the same seed gave other delays")
	}
	if slices.Equal(a, c) {
		t.Error("another seed gave the same delays")
	}
	if lo, hi := slices.Min(a), slices.Max(a); lo < time.Second || hi >= 2*time.Second || hi-lo < time.Second/2 {
		t.Errorf("delays from %v to %v", lo, hi)
	}
}

func TestRate(t *testing.T) {
	o := faultnet.Options{Down: faultnet.Faults{Rate: 1 << 20, Buffer: 64 << 10}}
	bubble(t, o, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		data := make([]byte, 3<<20)
		go accepted.Write(data)
		if d := took(func() { mustRead(t, dialled, len(data)) }); d < 2990*time.Millisecond || d > 3010*time.Millisecond {
			t.Errorf("3 MiB at 1 MiB/s took %v", d)
		}
		// The first bytes do not wait for the last ones.
		synctest.Wait()
		go accepted.Write(data[:32<<10])
		if d := took(func() { mustRead(t, dialled, 1) }); d > 10*time.Millisecond {
			t.Errorf("the first byte took %v", d)
		}
		mustRead(t, dialled, 32<<10-1)
	})
}

func TestSlice(t *testing.T) {
	bubble(t, faultnet.Options{Seed: 3, Up: faultnet.Faults{Slice: 10}}, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		want := make([]byte, 10_000)
		rand.NewChaCha8([32]byte{}).Read(want)
		mustWrite(t, dialled, want)
		var got []byte
		sizes := make(map[int]int)
		for p := make([]byte, 100); len(got) < len(want); {
			n, err := accepted.Read(p)
			if err != nil {
				t.Fatal(err)
			}
			sizes[n]++
			got = append(got, p[:n]...)
		}
		if !bytes.Equal(got, want) {
			t.Error("the bytes have changed")
		}
		if len(sizes) != 10 || sizes[1] < 100 || sizes[10] < 100 {
			t.Errorf("sizes of pieces: %v", sizes)
		}
	})
}

// TestBackPressure: what is not read fills the buffer, and no more than that.
func TestBackPressure(t *testing.T) {
	o := faultnet.Options{Up: faultnet.Faults{Buffer: 1000}}
	bubble(t, o, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		dialled.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := dialled.Write(make([]byte, 5000))
		if n != 1000 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Write: %d, %v", n, err)
		}
		// A deadline can be armed again.
		dialled.SetWriteDeadline(time.Time{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			mustWrite(t, dialled, make([]byte, 500))
		}()
		synctest.Wait()
		select {
		case <-done:
			t.Error("a full buffer took more")
		default:
		}
		mustRead(t, accepted, 500)
		<-done
	})
}

func TestStall(t *testing.T) {
	bubble(t, faultnet.Options{}, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		dialled.Link().Up.StallFor(3 * time.Second)
		mustWrite(t, dialled, []byte("late"))
		if d := took(func() { mustRead(t, accepted, 4) }); d != 3*time.Second {
			t.Errorf("it took %v", d)
		}

		dialled.Link().Up.Stall()
		mustWrite(t, dialled, []byte("never"))
		accepted.SetReadDeadline(time.Now().Add(24 * time.Hour))
		if n, err := accepted.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("in a stall: %d, %v", n, err)
		}
		accepted.SetReadDeadline(time.Time{})
		mustWrite(t, accepted, []byte("ok")) // the other direction
		mustRead(t, dialled, 2)

		time.AfterFunc(time.Minute, dialled.Link().Up.Resume)
		if d := took(func() { mustRead(t, accepted, 5) }); d != time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

// TestHalfOpen: writes succeed until the buffer is full and block then, and
// nobody learns of the other's end.
func TestHalfOpen(t *testing.T) {
	o := faultnet.Options{Up: faultnet.Faults{Buffer: 1000}}
	bubble(t, o, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		dialled.Link().HalfOpen()
		accepted.Close()
		mustWrite(t, dialled, make([]byte, 1000))
		dialled.SetDeadline(time.Now().Add(time.Hour))
		if n, err := dialled.Write([]byte{1}); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %d, %v", n, err)
		}
		if n, err := dialled.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %d, %v", n, err)
		}
		dialled.SetDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { dialled.Link().Up.Resume(); dialled.Link().Down.Resume() })
		if _, err := dialled.Write([]byte{1}); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write after the end of the black hole: %v", err)
		}
		if _, err := dialled.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("Read after the end of the black hole: %v", err)
		}
	})
}

func TestReset(t *testing.T) {
	bubble(t, faultnet.Options{}, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		mustWrite(t, dialled, []byte("lost"))
		errs := make(chan error, 1)
		go func() {
			_, err := dialled.Read(make([]byte, 1))
			errs <- err
		}()
		synctest.Wait()
		dialled.Link().Reset()
		if err := <-errs; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the Read under way: %v", err)
		}
		for name, c := range map[string]*faultnet.Conn{"dialled": dialled, "accepted": accepted} {
			if _, err := c.Read(make([]byte, 4)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: Read: %v", name, err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: Write: %v", name, err)
			}
		}
	})
}

func TestResetByOneEnd(t *testing.T) {
	bubble(t, faultnet.Options{}, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		accepted.SetLinger(0)
		accepted.Close()
		if _, err := dialled.Read(make([]byte, 4)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read: %v", err)
		}
	})
}

func TestCutAfter(t *testing.T) {
	bubble(t, faultnet.Options{}, func(t *testing.T, dialled, accepted *faultnet.Conn) {
		mustWrite(t, dialled, []byte("0123"))
		dialled.Link().Up.CutAfter(7)
		mustWrite(t, dialled, []byte("456789"))
		if got, err := io.ReadAll(accepted); string(got) != "0123456" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := dialled.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write: %v", err)
		}
		mustWrite(t, accepted, []byte("ok"))
		mustRead(t, dialled, 2)
	})
}

// TestClose: it ends everything that is blocked at this end.
func TestClose(t *testing.T) {
	o := faultnet.Options{Up: faultnet.Faults{Buffer: 1}}
	bubble(t, o, func(t *testing.T, dialled, _ *faultnet.Conn) {
		dialled.Link().HalfOpen()
		errs := make(chan error, 2)
		go func() {
			_, err := dialled.Read(make([]byte, 1))
			errs <- err
		}()
		go func() {
			_, err := dialled.Write(make([]byte, 2))
			errs <- err
		}()
		synctest.Wait()
		dialled.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
	})
}
