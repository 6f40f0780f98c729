package h2conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// upgradeBody is the body of an upgrade request as it crosses the connection:
// the request's own body, if it has one, and then what the viewer sends. x/net
// is its only reader, and closes it. Its states:
//
//	own body  own is not nil and ownOver false: Read returns the own body,
//	          exactly length bytes of it, or in the chunked coding
//	stream    Read returns what the viewer writes to the pipe or, while there is a
//	          source, what that has
//	over      a Read of either has failed, or Close was called: sent is closed
type upgradeBody struct {
	own     io.ReadCloser // nil: none
	length  int64         // bytes left of own; negative: unknown, so it goes in chunks
	ownOver bool          // owned by Read
	ownRead chan struct{} // closed when nothing more is read of own; nil without one

	stream *io.PipeReader
	sent   chan struct{} // closed when nothing more is sent: all has left, or the stream broke
	once   sync.Once

	mu      sync.Mutex
	source  *upgradeSource // nil: the pipe
	stopped bool           // no source is taken any more
}

// begin makes req's body the beginning of b, and notes in h how it is delimited.
func (b *upgradeBody) begin(h http.Header, req *http.Request) {
	b.own, b.length, b.ownRead = req.Body, req.ContentLength, make(chan struct{})
	if b.length > 0 {
		h.Set(HeaderUpgradeBody, strconv.FormatInt(b.length, 10))
		return
	}
	b.length = -1
	h.Set(HeaderUpgradeBody, "chunked")
}

func (b *upgradeBody) Read(p []byte) (n int, err error) {
	for n == 0 && err == nil && b.own != nil && !b.ownOver && len(p) > 0 {
		if b.length < 0 {
			n, err = b.readChunk(p)
		} else {
			n, err = b.readExactly(p)
		}
		if b.ownOver {
			close(b.ownRead)
		}
	}
	if n == 0 && err == nil {
		n, err = b.readStream(p)
	}
	if err != nil { // x/net has written what it has read before it reads on
		b.over()
	}
	return n, err
}

// readStream reads what follows the own body. It may return 0 and no error.
func (b *upgradeBody) readStream(p []byte) (int, error) {
	b.mu.Lock()
	source := b.source
	b.mu.Unlock()
	if source != nil {
		if n, ok := source.read(p); ok {
			return n, nil
		}
	}
	return b.stream.Read(p)
}

// take makes source the one to read from next. It reports false if the stream is over.
func (b *upgradeBody) take(source *upgradeSource) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped {
		b.source = source
	}
	return !b.stopped
}

// stop is called when the stream takes nothing more, before its reader finds out.
func (b *upgradeBody) stop() {
	b.mu.Lock()
	b.stopped = true
	source := b.source
	b.mu.Unlock()
	source.stop()
}

// readExactly reads the own body. Fewer bytes than announced are an error, since
// the other end could not tell where the body ends.
func (b *upgradeBody) readExactly(p []byte) (int, error) {
	n, err := b.own.Read(p[:min(int64(len(p)), b.length)])
	b.length -= int64(n)
	b.ownOver = b.length == 0
	if errors.Is(err, io.EOF) {
		err = nil
		if !b.ownOver {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// A chunk (RFC 9112, section 7.1) has its length in front, here always in eight
// digits, and a line's end behind.
const (
	chunkHead = len("00000000\r\n")
	chunkTail = len("\r\n")
	lastChunk = "0\r\n\r\n"
)

// readChunk reads one chunk of the own body, or the last one.
func (b *upgradeBody) readChunk(p []byte) (int, error) {
	if len(p) <= chunkHead+chunkTail {
		return 0, io.ErrShortBuffer // x/net reads whole frames
	}
	n, err := b.own.Read(p[chunkHead : len(p)-chunkTail])
	end := 0
	if n > 0 {
		copy(p, fmt.Sprintf("%08x\r\n", n))
		end = chunkHead + n + copy(p[chunkHead+n:], "\r\n")
	}
	if !errors.Is(err, io.EOF) {
		return end, err
	}
	if len(p)-end < len(lastChunk) {
		return end, nil // the next Read gets the end again
	}
	b.ownOver = true
	return end + copy(p[end:], lastChunk), nil
}

// waitOwn returns nil when all of the own body has been read, and otherwise why it
// will not be.
func (b *upgradeBody) waitOwn(ctx context.Context, gone <-chan struct{}) (err error) {
	select {
	case <-b.ownRead:
	case <-b.sent:
		err = errors.New("h2conn: the body of the upgrade request broke off")
	case <-ctx.Done():
		err = ctx.Err()
	case <-gone:
		err = net.ErrClosed
	}
	select {
	case <-b.ownRead: // before the rest, which may have followed at once
		return nil
	default:
		return err
	}
}

func (b *upgradeBody) over() { b.once.Do(func() { close(b.sent) }) }

// Close ends both parts.
func (b *upgradeBody) Close() error {
	b.over()
	b.stop()
	if b.own != nil {
		b.own.Close()
	}
	return b.stream.Close()
}
