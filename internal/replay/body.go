// Package replay is for requests that the peer has not processed, and that are
// therefore sent again (RFC 9113, section 8.7). It has a request body that can be
// read again from its beginning, and says how often and when to try.
package replay

import (
	"io"
	"net/http"
	"sync"
)

// Limit is how many bytes of a body are kept for another try.
const Limit = 64 << 10

// firstPiece is how much room the first Read of the source has. Each later one
// has as much as is there already: most bodies are small.
const firstPiece = 4 << 10

// A Body reads a source and keeps the first [Limit] bytes of it. While it keeps
// them, Rewind begins again, and Interrupt ends a Read at once though the source
// has nothing to give: another goroutine reads the source meanwhile, and what it
// gets is for the next try. That goroutine ends when its Read of the source does.
//
// A Body that keeps nothing any more passes each Read on to the source.
//
// One goroutine reads. The other methods may be called from any.
type Body struct {
	src io.Reader

	mu       sync.Mutex
	kept     []byte
	off      int           // how much of kept this try has read
	err      error         // with which the source has ended, behind kept
	settled  bool          // nothing more is kept: there is no other try
	passed   bool          // a Read has gone to the source, and kept is incomplete
	stopped  bool          // this try is over
	changed  chan struct{} // closed at the next change that a waiting Read has to see; nil if none waits
	fetching bool          // a Read of the source is under way
	held     bool          // a Read waits rather than lose the beginning
}

// New returns a Body that reads src.
func New(src io.Reader) *Body { return &Body{src: src} }

// Read implements [io.Reader]. After Interrupt it returns
// [http.ErrBodyReadAfterClose].
func (b *Body) Read(p []byte) (int, error) {
	b.mu.Lock()
	for {
		switch {
		case b.stopped:
			b.mu.Unlock()
			return 0, http.ErrBodyReadAfterClose
		case b.off < len(b.kept):
			n := copy(p, b.kept[b.off:])
			b.off += n
			b.dropLocked()
			b.mu.Unlock()
			return n, nil
		case b.err != nil:
			err := b.err
			b.mu.Unlock()
			return 0, err
		case len(p) == 0:
			b.mu.Unlock()
			return 0, nil
		case b.fetching || b.held && !b.settled && len(b.kept) > Limit:
		case b.settled || b.passed || len(b.kept) > Limit:
			b.passed, b.kept, b.off = true, nil, 0 // all of it has been read
			b.mu.Unlock()
			return b.src.Read(p)
		default:
			b.fetching = true
			go b.fetch(b.roomLocked())
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		<-changed
		b.mu.Lock()
	}
}

// roomLocked returns where the next piece of the source goes: behind kept.
func (b *Body) roomLocked() []byte {
	n := len(b.kept)
	if n == cap(b.kept) {
		grown := make([]byte, n, min(max(2*n, firstPiece), Limit+1)) // a byte more: to see the end of one of Limit bytes
		copy(grown, b.kept)
		b.kept = grown
	}
	return b.kept[n:cap(b.kept)]
}

// fetch reads a piece of the source into room.
func (b *Body) fetch(room []byte) {
	n, err := b.src.Read(room)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fetching = false
	b.kept = b.kept[:len(b.kept)+n]
	b.err = err
	b.wakeLocked()
}

func (b *Body) wakeLocked() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

// Hold says whether a Read that would lose what is kept waits, until the next call or until
// there is no other try.
func (b *Body) Hold(held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = held
	b.wakeLocked()
}

// Settle says that there will be no other try.
func (b *Body) Settle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = true
	b.wakeLocked()
	b.dropLocked()
}

// dropLocked forgets what nobody will read again.
func (b *Body) dropLocked() {
	if b.settled && !b.fetching && b.off == len(b.kept) {
		b.kept, b.off = nil, 0
	}
}

// Interrupt ends this try: Reads fail, also one that waits. It reports false, and
// does nothing, if there can be no other: then only the source can end a Read.
func (b *Body) Interrupt() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settled || b.passed {
		return false
	}
	b.stopped = true
	b.wakeLocked()
	return true
}

// Rewind begins the next try, and reports false if there can be none because more
// has been read than was kept. The Reads of the last one must be over.
func (b *Body) Rewind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.settled || b.passed {
		return false
	}
	b.stopped, b.off = false, 0
	return true
}
