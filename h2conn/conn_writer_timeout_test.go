package h2conn

import (
	"net"
	"testing"
	"time"
)

// TestEachFlushIsTimed: a flush gets stuck that begins just when the one before ends:
// its timeout is its own.
func TestEachFlushIsTimed(t *testing.T) {
	for range 100 {
		a, b := net.Pipe()
		c := newCombiner(a, 10*time.Millisecond, false)
		c.Write([]byte{0})
		go b.Read(make([]byte, 1)) // and no more
		c.mu.Lock()
		for c.flushing {
			c.waitLocked(nil)
		}
		c.mu.Unlock()
		c.Write([]byte{0})
		late := time.NewTimer(10 * time.Second)
		c.mu.Lock()
		for c.err == nil {
			c.waitLocked(late.C)
			if c.err == nil && !late.Stop() {
				t.Fatal("the stuck write was not timed")
			}
			late.Reset(10 * time.Second)
		}
		c.mu.Unlock()
		late.Stop()
		a.Close()
		b.Close()
	}
}
