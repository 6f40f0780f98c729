package h2conn

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestFloodForgives: a quiet tunnel whose client pings by websocket goes on for
// days, and one that is flooded does not.
func TestFloodForgives(t *testing.T) {
	const header = 6 // of a small frame that is masked
	synctest.Test(t, func(t *testing.T) {
		f := new(flood)
		for i := range 24 * 60 * 60 {
			f.arrived(header + 16)
			f.ping(time.Now())
			if i%15 == 0 { // the answer to HTTP/2's own ping
				f.arrived(header + 17)
				f.useful(17)
			}
			if err := f.err(); err != nil {
				t.Fatalf("after %d s with a ping in each: %v", i, err)
			}
			<-time.After(time.Second) // of the bubble
		}
		n := 0
		for ; f.err() == nil && n < 1<<20; n++ {
			f.arrived(header)
		}
		if most := 2*maxOverhead/header + 1; n > most {
			t.Errorf("%d frames that carry nothing arrived at once: at most %d are to be taken", n, most)
		}
	})
}
