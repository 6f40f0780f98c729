package redisdir_test

import (
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/websocktunnel/websocktunnel/cluster/directorytest"
	"github.com/websocktunnel/websocktunnel/cluster/redisdir"
)

// open returns a directory that closes when the test ends.
func open(t *testing.T, cfg redisdir.Config) *redisdir.Directory {
	t.Helper()
	d, err := redisdir.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestMiniredis(t *testing.T) {
	t.Parallel()
	directorytest.Run(t, func(t *testing.T) directorytest.Fixture {
		m := miniredis.RunT(t)
		cfg := redisdir.Config{URL: "redis://" + m.Addr()}
		start, past := time.Now(), time.Duration(0)
		return directorytest.Fixture{
			Directory: open(t, cfg),
			Other:     open(t, cfg),
			Many:      200, // it compiles each script anew
			Advance: func(d time.Duration) {
				past += d
				m.SetTime(start.Add(past))
				m.FastForward(d)
			},
			Break: func() {
				m.Close()
				if err := m.Restart(); err != nil {
					t.Error(err)
				}
			},
		}
	})
}
