package h2conn

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stuckWriter writes nothing until it is closed.
type stuckWriter struct {
	closed chan struct{}
	once   sync.Once
}

func (w *stuckWriter) Write([]byte) (int, error) { <-w.closed; return 0, errWriteTimeout }
func (w *stuckWriter) Close() error              { w.once.Do(func() { close(w.closed) }); return nil }

// TestCombinerCloseLingers for what is pending, but not for long.
func TestCombinerCloseLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCombiner(&stuckWriter{closed: make(chan struct{})}, 5*time.Second, false)
		c.Write([]byte("x"))
		start := time.Now()
		c.Close()
		if d := time.Since(start); d != closeLinger {
			t.Errorf("Close took %v, want %v", d, closeLinger)
		}
	})
}

// slowWriter takes 4 KiB each 50 ms.
type slowWriter struct{}

func (slowWriter) Write(p []byte) (int, error) {
	for i := 0; i < len(p); i += 4096 {
		<-time.After(50 * time.Millisecond)
	}
	return len(p), nil
}
func (slowWriter) Close() error { return nil }

// TestCombinerTimeoutIsAboutProgress: a slow link is no stuck one.
func TestCombinerTimeoutIsAboutProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCombiner(slowWriter{}, 400*time.Millisecond, false)
		for range 6 {
			if _, err := c.Write(make([]byte, 32<<10)); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(time.Minute) // until all has left
		if err := c.cause(); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

// meteredWriter takes as many bytes per millisecond as it is told to.
type meteredWriter struct{ perMS atomic.Int64 }

func (w *meteredWriter) Write(p []byte) (int, error) {
	if d := time.Duration(len(p)) * time.Millisecond / time.Duration(w.perMS.Load()); d > 0 {
		<-time.After(d)
	}
	return len(p), nil
}
func (w *meteredWriter) Close() error { return nil }

// TestQuantumFollowsLink: what is held back shrinks to what a slow link takes
// in a moment, and grows again.
func TestQuantumFollowsLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(meteredWriter)
		c := newCombiner(w, 10*time.Second, false)
		send := func(perMS int64, n int) int {
			w.perMS.Store(perMS)
			for ; n > 0; n -= 8 << 10 {
				if err := c.writeMessage(opBinary, make([]byte, 8<<10), false); err != nil {
					t.Fatal(err)
				}
			}
			<-time.After(time.Minute) // until all has left
			return int(c.quantum.Load())
		}
		if q := c.quantum.Load(); q != maxQuantum {
			t.Errorf("at first %d, want %d", q, maxQuantum)
		}
		if q := send(125, 128<<10); q != minQuantum {
			t.Errorf("at 1 Mbit/s %d, want %d", q, minQuantum)
		}
		if q := send(2500, 1<<20); q < 20_000 || q > 30_000 {
			t.Errorf("at 20 Mbit/s %d, want about 25,000", q)
		}
		if q := send(125_000, 4<<20); q != bulkQuantum {
			t.Errorf("at 1 Gbit/s %d, want %d", q, bulkQuantum)
		}
		c.Close()
	})
}

// TestFastLink: one that has proven fast takes more at a time, and the kernel may hold more; not so when it has become slow.
func TestFastLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answering := range []bool{false, true} {
			w := new(meteredWriter)
			c := newCombiner(w, 10*time.Second, answering)
			var unsent atomic.Int64
			c.unsent = func(n int) { unsent.Store(int64(n)) }
			send := func(perMS int64, n int) {
				w.perMS.Store(perMS)
				for ; n > 0; n -= 32 << 10 {
					if err := c.writeMessage(opBinary, make([]byte, 32<<10), false); err != nil {
						t.Fatal(err)
					}
				}
				<-time.After(time.Minute) // until all has left
			}
			send(2500, 2<<20)
			if unsent.Load() != 0 {
				t.Errorf("at 20 Mbit/s the kernel may hold %d", unsent.Load())
			}
			send(125_000, 4<<20)
			if q := int(c.quantum.Load()); q != bulkQuantum || unsent.Load() != fastUnsent {
				t.Errorf("at 1 Gbit/s %d at a time and %d in the kernel, want %d and %d", q, unsent.Load(), bulkQuantum, fastUnsent)
			}
			send(2500, 256<<10)
			if q := int(c.quantum.Load()); q > 30_000 || unsent.Load() != maxUnsent {
				t.Errorf("at 20 Mbit/s again %d at a time and %d in the kernel, want about 25,000 and %d", q, unsent.Load(), maxUnsent)
			}
			c.Close()
		}
	})
}
