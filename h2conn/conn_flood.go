package h2conn

import (
	"sync"
	"time"
)

const (
	// maxOverhead is how many bytes of the websocket may arrive that carry
	// nothing: pings, pongs, empty frames and the headers of tiny ones, of which
	// the websocket library takes any number without a word. Each byte that does
	// carry something pays for overheadPerByte: messages need 3 bytes of HTTP/2
	// on average, whose smallest frames have 9.
	maxOverhead     = 64 << 10
	overheadPerByte = 3

	// overheadRate is how many of those bytes are forgiven per second: as many
	// as pingRate pings have.
	overheadRate = 2 << 10

	// pingRate is how many websocket pings per second are answered for good,
	// and pingBurst how many may come at once.
	pingRate  = 10
	pingBurst = 50
)

// flood watches the websocket below a Conn. The zero value is ready.
type flood struct {
	mu       sync.Mutex // Close reads too
	overhead int        // bytes that have carried nothing so far
	forgiven time.Time  // when time was last counted; zero: not yet
	pings    int        // in the bucket
	drained  time.Time
	what     string // has been exceeded; empty: nothing
	over     bool   // nothing counts any more
}

// floodError is why a websocket is read no further.
type floodError struct{ what string }

func (e *floodError) Error() string { return "h2conn: " + e.what }

func (f *flood) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.what == "" {
		return nil
	}
	return &floodError{f.what}
}

// stop ends the watch, for the close handshake: it has a time limit, and what
// the peer has sent has to be read until then. A socket that is closed with
// bytes to read is reset, which can take the close frame with it.
func (f *flood) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over, f.what = true, ""
}

// arrived counts bytes from the network.
func (f *flood) arrived(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return
	}
	if f.forgiven.IsZero() {
		f.forgiven = time.Now()
	}
	if f.overhead += n; f.overhead <= maxOverhead { // the clock is asked only when it matters
		return
	}
	now := time.Now()
	f.overhead = max(f.overhead-int(min(now.Sub(f.forgiven).Seconds(), 3600)*overheadRate), 0)
	f.forgiven = now
	if f.overhead > maxOverhead {
		f.what = "too many websocket frames that carry nothing"
	}
}

// useful counts bytes of messages that were delivered.
func (f *flood) useful(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.overhead = max(f.overhead-overheadPerByte*n, 0)
}

// ping counts a ping and reports whether it is to be answered.
func (f *flood) ping(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	if f.drained.IsZero() {
		f.drained = now
	}
	if n := int(now.Sub(f.drained) / (time.Second / pingRate)); n > 0 {
		f.pings = max(f.pings-n, 0)
		f.drained = f.drained.Add(time.Duration(n) * (time.Second / pingRate))
	}
	if f.pings++; f.pings > pingBurst {
		f.what = "too many websocket pings"
	}
	return f.what == ""
}
