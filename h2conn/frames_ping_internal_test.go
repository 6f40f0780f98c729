package h2conn

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestPingGrid: the waits of connections that begin one after the other end together, never
// later than they should, and little earlier.
func TestPingGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, wait = 10, 15 * time.Second
		ends := make(chan time.Time, n)
		for range n {
			begun := time.Now()
			var p pinger
			p.timer = time.AfterFunc(time.Hour, func() {
				if took := time.Since(begun); took > wait || took < wait-early(wait) {
					t.Errorf("it took %v", took)
				}
				ends <- time.Now()
			})
			p.after(wait)
			<-time.After(7 * time.Millisecond)
		}
		at := make(map[time.Time]int)
		for range n {
			at[<-ends]++
		}
		if len(at) > 2 {
			t.Errorf("they ended at %v", at)
		}
		begun := time.Now()
		p := pinger{timer: time.AfterFunc(time.Hour, func() { ends <- time.Now() })}
		p.after(50 * time.Millisecond)
		if took := (<-ends).Sub(begun); took != 50*time.Millisecond {
			t.Errorf("a short wait took %v", took)
		}
	})
}
