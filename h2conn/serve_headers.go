package h2conn

import (
	"errors"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Bounds of the header list of one request, beside its size. A list of many small
// fields, or a Trailer header of many names, costs far more in memory than on the
// wire.
const (
	// maxRequestFields is what the service passes on of a viewer's, 1000, with room
	// for those that it adds.
	maxRequestFields = 1100

	// maxTrailerNames is what the service passes on of a viewer's, with room.
	maxTrailerNames = 128

	// maxOverLimit is how many requests of one connection may break a bound, each
	// of which gets 431. An asking end knows the bounds, so for one more the
	// connection ends. x/net answers 431 itself if a list is too large, and keeps
	// what it has read of it until the peer has taken that answer.
	maxOverLimit = 8
)

// errTooManyFields is what a Transport returns for a request that breaks a bound.
var errTooManyFields = errors.New("h2conn: the request has too many header fields or names of trailers")

// fieldsWithin reports whether a request with this header is within the bounds.
func fieldsWithin(h map[string][]string) bool {
	fields, names := 0, 0
	for k, vv := range h {
		if fields += len(vv); k == "Trailer" {
			for _, v := range vv {
				names += trailerNames(v)
			}
		}
	}
	return fields <= maxRequestFields && names <= maxTrailerNames
}

func trailerNames(v string) int { return 1 + strings.Count(v, ",") }

// headerGuard reads the header blocks in what x/net's server is about to read, and
// counts those that break a bound: there is no other place to see them before x/net
// has made header maps of them. It belongs to the goroutine that reads.
type headerGuard struct {
	limit uint32 // of a header list's size
	over  int    // lists that broke a bound

	dec   *hpack.Decoder
	size  uint32 // of the list so far
	count int    // of its fields
	names int    // in its Trailer

	skip   int // bytes of the connection preface still to come
	header [frameHeaderLen]byte
	have   int
	head   int // bytes still to come before the block: length of the padding, priority
	block  int // of the block, in this frame
	tail   int // after it: padding, or the payload of another frame
	padded bool
}

// newHeaderGuard returns one for a peer that sends a connection preface, and may
// send header lists of limit bytes.
func newHeaderGuard(limit uint32) *headerGuard {
	g := &headerGuard{limit: limit, skip: len(http2.ClientPreface)}
	g.dec = hpack.NewDecoder(initialTableSize, g.field)
	return g
}

// initialTableSize is that of HPACK's dynamic table (RFC 9113, section 6.5.2). x/net's
// server names no other.
const initialTableSize = 4096

func (g *headerGuard) field(f hpack.HeaderField) {
	g.size = min(g.size+f.Size(), 1<<30) // a bomb makes no overflow of it
	if g.count++; f.Name == "trailer" {
		g.names += trailerNames(f.Value)
	}
}

// observe is given everything that x/net reads, in order. It returns false when the
// peer has broken the bounds too often.
func (g *headerGuard) observe(p []byte) bool {
	for len(p) > 0 {
		switch {
		case g.skip > 0:
			p = p[take(&g.skip, p):]
		case g.padded:
			g.padded = false
			pad := min(int(p[0]), g.block) // x/net refuses more
			g.head--
			g.block, g.tail = g.block-pad, pad
			p = p[1:]
		case g.head > 0:
			p = p[take(&g.head, p):]
		case g.block > 0:
			n := take(&g.block, p)
			_, _ = g.dec.Write(p[:n]) // x/net ends the connection for an error
			p = p[n:]
		case g.tail > 0:
			p = p[take(&g.tail, p):]
		default:
			n := copy(g.header[g.have:], p)
			g.have += n
			p = p[n:]
			if g.have == frameHeaderLen {
				g.have = 0
				g.begin()
			}
		}
		if g.have == 0 && g.head+g.block+g.tail == 0 && !g.end() {
			return false
		}
	}
	return true
}

// take subtracts from left what p has of it, and returns that.
func take(left *int, p []byte) int {
	n := min(*left, len(p))
	*left -= n
	return n
}

// begin begins a frame.
func (g *headerGuard) begin() {
	length, flags := frameLength(g.header[:]), http2.Flags(g.header[4])
	switch http2.FrameType(g.header[3]) {
	case http2.FrameHeaders:
		if g.padded = flags.Has(http2.FlagHeadersPadded); g.padded {
			g.head++
		}
		if flags.Has(http2.FlagHeadersPriority) {
			g.head += 5
		}
		g.head = min(g.head, length)
		g.padded = g.padded && length > 0
		g.block = length - g.head
	case http2.FrameContinuation:
		g.block = length
	default:
		g.tail = length
	}
}

// end ends a frame, and with the last one of a header block that block.
func (g *headerGuard) end() bool {
	switch kind := http2.FrameType(g.header[3]); {
	case kind != http2.FrameHeaders && kind != http2.FrameContinuation,
		!http2.Flags(g.header[4]).Has(http2.FlagHeadersEndHeaders): // the same in both
		return true
	}
	g.header = [frameHeaderLen]byte{}
	_ = g.dec.Close()
	if g.size > g.limit || g.count > maxRequestFields || g.names > maxTrailerNames {
		g.over++
	}
	g.size, g.count, g.names = 0, 0, 0
	return g.over <= maxOverLimit
}

// guardedConn is an http2Conn whose header blocks are looked at before x/net's
// server has them.
type guardedConn struct {
	*http2Conn
	guard *headerGuard
}

func (c *guardedConn) Read(p []byte) (int, error) {
	n, err := c.http2Conn.Read(p)
	if !c.guard.observe(p[:n]) {
		return 0, c.violation("too many requests with a header that is too large")
	}
	return n, err
}
