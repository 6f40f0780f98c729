package cluster_test

import (
	"sync"
	"testing"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/cluster/directorytest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	directorytest.Run(t, func(*testing.T) directorytest.Fixture {
		m := new(cluster.Memory)
		c := &clock{now: time.Now()}
		m.SetClock(c.time)
		return directorytest.Fixture{Directory: m, Advance: c.advance}
	})
}

// A clock moves only when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) time() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
