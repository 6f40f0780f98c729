package tunneltest

import "time"

// Poll waits until cond returns true, for at most limit, and reports whether it
// did. It is for what has no event to wait for. Any goroutine may call it.
func Poll(limit time.Duration, cond func() bool) bool {
	for end := time.Now().Add(limit); !cond(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(end) {
			return cond()
		}
	}
	return true
}
