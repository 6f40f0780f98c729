package interim_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/interim"
)

func TestLimit(t *testing.T) {
	kib := http.Header{"X": {strings.Repeat("x", 1024-33)}}
	for _, tt := range []struct {
		name    string
		n       int
		every   time.Duration
		header  http.Header
		pass    [2]int // from, to
		flood   bool
		atLeast int // calls before a flood is one
	}{
		{name: "one", n: 1, pass: [2]int{1, 1}},
		{name: "a burst", n: interim.Burst, pass: [2]int{interim.Burst, interim.Burst}},
		{name: "more at once", n: 500, pass: [2]int{interim.Burst, interim.Burst + 1}},
		{name: "one a second for a day", n: 86_400, every: time.Second, pass: [2]int{86_400, 86_400}},
		{name: "fifty a second for an hour", n: 180_000, every: 20 * time.Millisecond, pass: [2]int{36_000, 36_100}},
		{name: "large ones", n: 100, header: kib, pass: [2]int{interim.Burst/2 - 1, interim.Burst/2 + 1}},
		{name: "a flood", n: 100_000, every: time.Millisecond, pass: [2]int{interim.Burst, interim.Burst + 20}, flood: true, atLeast: interim.Flood},
		{name: "a flood of large ones", n: 1000, header: kib, pass: [2]int{1, interim.Burst}, flood: true, atLeast: interim.Flood/2 - 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var l interim.Limit
				passed := 0
				for i := range tt.n {
					ok, err := l.Admit(tt.header)
					if errors.Is(err, interim.ErrFlood) {
						if !tt.flood || i < tt.atLeast {
							t.Fatalf("a flood after %d", i)
						}
						tt.flood = false
						break
					}
					if ok {
						passed++
					}
					wait(tt.every)
				}
				if tt.flood {
					t.Error("no flood")
				}
				if passed < tt.pass[0] || passed > tt.pass[1] {
					t.Errorf("%d passed, want %v", passed, tt.pass)
				}
			})
		})
	}
}

// wait moves the fake clock.
func wait(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // in a synctest bubble
