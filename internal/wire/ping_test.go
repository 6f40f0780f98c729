package wire_test

import (
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

func TestFormatPing(t *testing.T) {
	for _, tt := range []struct {
		interval, timeout time.Duration
		want              string
	}{
		{5 * time.Second, 5 * time.Second, "interval=5, timeout=5"},
		{time.Second, time.Minute, "interval=1, timeout=60"},
		{1500 * time.Millisecond, 59001 * time.Millisecond, "interval=2, timeout=60"},
		{-1, 5 * time.Second, ""},
		{5 * time.Second, -1, ""},
		{999 * time.Millisecond, 5 * time.Second, ""},
		{5 * time.Second, time.Minute + 1, ""},
	} {
		got := wire.FormatPing(tt.interval, tt.timeout)
		if got != tt.want {
			t.Errorf("%v, %v: %q, want %q", tt.interval, tt.timeout, got, tt.want)
		}
		if _, _, ok := wire.ParsePing(got); ok != (got != "") {
			t.Errorf("%q is understood: %v", got, ok)
		}
	}
}

func TestParsePing(t *testing.T) {
	for value, want := range map[string][2]time.Duration{
		"interval=5, timeout=7":                    {5 * time.Second, 7 * time.Second},
		"timeout=60,interval=1":                    {time.Second, time.Minute},
		"interval=5,\ttimeout=7, later=x":          {5 * time.Second, 7 * time.Second},
		"":                                         {},
		"5/5":                                      {},
		"interval=5":                               {},
		"interval=0, timeout=5":                    {},
		"interval=61, timeout=5":                   {},
		"interval=5, timeout=-5":                   {},
		"interval=5, timeout=5s":                   {},
		"interval=5, timeout=+5":                   {},
		"interval=5, interval=5, timeout=5":        {},
		"interval=5, timeout=99999999999999999999": {},
	} {
		interval, timeout, ok := wire.ParsePing(value)
		if got := [2]time.Duration{interval, timeout}; ok != (want[0] > 0) || ok && got != want {
			t.Errorf("%q: %v, %v, want %v", value, got, ok, want)
		}
	}
}
