package replay

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// MaxTries is how often a request is sent that the peer says it has not
	// processed.
	MaxTries = 6

	// firstPause is the wait before the third try; it doubles with each. The second
	// comes at once: a peer that ends its connections now and then, by age or after a
	// number of requests, takes it on the next one.
	firstPause = 100 * time.Millisecond
)

// Pause waits before another try, when there have been tries of them. The time
// varies: requests that one connection has refused do not all meet at the next. It
// returns the error of ctx if that ends first.
func Pause(ctx context.Context, tries int) error {
	if tries < 2 {
		return ctx.Err()
	}
	d := firstPause << (tries - 2)
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
