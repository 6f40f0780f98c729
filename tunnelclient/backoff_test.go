package tunnelclient_test

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func TestBackoff(t *testing.T) {
	longest := func(bound time.Duration) time.Duration { return bound }
	shortest := func(time.Duration) time.Duration { return 0 }
	for _, tt := range []struct {
		name string
		b    *tunnelclient.Backoff
		want []float64 // seconds
	}{
		{"retry, longest", tunnelclient.RetryBackoff(longest), []float64{1, 2, 4, 8, 16, 30, 30}},
		{"retry, shortest", tunnelclient.RetryBackoff(shortest), []float64{0, 0, 0, 0, 0, 0, 0}},
		{"replaced, longest", tunnelclient.ReplacedBackoff(longest), []float64{5, 10, 20, 40, 60, 60, 60}},
		{"replaced, shortest", tunnelclient.ReplacedBackoff(shortest), []float64{2.5, 5, 10, 20, 30, 30, 30}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 {
				var got []float64
				for range tt.want {
					got = append(got, tt.b.Next().Seconds())
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("waits %v, want %v", got, tt.want)
				}
				tt.b.Reset()
			}
		})
	}
}

// While an outage is young the bound stays low; then the curve goes on from
// where it would have been.
func TestBackoffWithin(t *testing.T) {
	b := tunnelclient.RetryBackoff(func(bound time.Duration) time.Duration { return bound })
	var got []float64
	for range 6 {
		got = append(got, b.NextWithin(2*time.Second).Seconds())
	}
	for range 4 {
		got = append(got, b.Next().Seconds())
	}
	if want := []float64{1, 2, 2, 2, 2, 2, 4, 8, 16, 30}; !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
}

// Already the first retry is spread evenly: all clients of a service lose it at
// the same moment.
func TestFirstRetryIsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newFakeService(t)
		cfg := s.config(tunnelclient.StaticToken("t1"))
		cfg.SetJitter(nil) // the real one
		serve(t, cfg, hello)
		const rounds = 300
		var quarters [4]int
		fs := s.next()
		for range rounds {
			pass(time.Minute)
			fs.asking.Close()
			<-fs.conn.Done()
			begin := time.Now()
			fs = s.next()
			d := time.Since(begin)
			if d > time.Second {
				t.Errorf("waited %v", d)
			}
			quarters[min(d/(time.Second/4), 3)]++
		}
		for i, n := range quarters {
			if n < rounds/10 { // 75 are likely
				t.Errorf("quarter %d of the first second: %d of %d retries", i+1, n, rounds)
			}
		}
	})
}

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, tt := range []struct {
		name, value, date string
		want              time.Duration
	}{
		{"none", "", "", 0},
		{"seconds", "7", "", 7 * time.Second},
		{"space", " 7 ", "", 7 * time.Second},
		{"zero", "0", "", 0},
		{"negative", "-1", "", 0},
		{"words", "soon", "", 0},
		{"fraction", "1.5", "", 0},
		{"huge", "4000000000", "", time.Hour},
		{"overflow", "99999999999999999999", "", time.Hour},
		{"date", date(20 * time.Second), "", 20 * time.Second},
		{"past date", date(-time.Minute), "", 0},
		{"far date", date(48 * time.Hour), "", time.Hour},
		// The clock here is an hour off; the service's is what counts.
		{"date by the service's clock", date(time.Hour + 9*time.Second), date(time.Hour), 9 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := http.Header{}
			h.Set("Retry-After", tt.value)
			if tt.date != "" {
				h.Set("Date", tt.date)
			}
			if got := tunnelclient.ParseRetryAfter(h, now); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
