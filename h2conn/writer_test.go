package h2conn

import (
	"sync"
	"testing"
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
	c := newCombiner(&stuckWriter{closed: make(chan struct{})}, 5*time.Second)
	c.Write([]byte("x"))
	start := time.Now()
	c.Close()
	if d := time.Since(start); d > 4*closeLinger {
		t.Errorf("Close took %v", d)
	}
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
	c := newCombiner(slowWriter{}, 400*time.Millisecond)
	for range 6 {
		if _, err := c.Write(make([]byte, 32<<10)); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	for busy := true; busy; { // the goroutine is still in the writer
		c.mu.Lock()
		busy = c.flushing
		c.mu.Unlock()
	}
}
