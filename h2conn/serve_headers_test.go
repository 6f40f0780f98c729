package h2conn

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// guarded makes the bytes of a connection for a headerGuard.
type guarded struct {
	bytes.Buffer
	fr  *http2.Framer
	enc *hpack.Encoder
	buf bytes.Buffer
	id  uint32
}

func newGuarded() *guarded {
	g := &guarded{id: 1}
	io.WriteString(g, http2.ClientPreface)
	g.fr = http2.NewFramer(g, nil)
	g.fr.WriteSettings()
	g.enc = hpack.NewEncoder(&g.buf)
	return g
}

// request sends a header block in the form that p has, in pieces.
func (g *guarded) request(pieces int, p http2.HeadersFrameParam, fields ...hpack.HeaderField) {
	g.buf.Reset()
	for _, f := range fields {
		g.enc.WriteField(f)
	}
	b := bytes.Clone(g.buf.Bytes())
	k := len(b) / pieces
	p.StreamID, p.BlockFragment, p.EndHeaders = g.id, b[:k], pieces == 1
	if pieces == 1 {
		p.BlockFragment = b
	}
	g.fr.WriteHeaders(p)
	for i := 1; i < pieces; i++ {
		part := b[i*k : (i+1)*k]
		if i == pieces-1 {
			part = b[i*k:]
		}
		g.fr.WriteContinuation(g.id, i == pieces-1, part)
	}
	g.id += 2
	g.fr.WriteData(p.StreamID, true, []byte("body"))
}

// TestHeaderGuard: header lists that break a bound are counted, in whichever frames
// and pieces they come, and no others.
func TestHeaderGuard(t *testing.T) {
	const limit = 8 << 10
	field := func(name, value string) hpack.HeaderField { return hpack.HeaderField{Name: name, Value: value} }
	many := make([]hpack.HeaderField, maxRequestFields+1)
	for i := range many {
		many[i] = field("", "")
	}
	for name, tc := range map[string]struct {
		fields []hpack.HeaderField
		over   bool
	}{
		"ordinary":              {[]hpack.HeaderField{field(":method", "GET"), field("x", "y")}, false},
		"just small enough":     {[]hpack.HeaderField{field("x", strings.Repeat("~", limit-33))}, false},
		"too large":             {[]hpack.HeaderField{field("x", strings.Repeat("~", limit-32))}, true},
		"too many fields":       {many, true},
		"as many as there are":  {many[1:], false},
		"names of trailers":     {[]hpack.HeaderField{field("trailer", strings.Repeat("x,", maxTrailerNames-1))}, false},
		"too many of them":      {[]hpack.HeaderField{field("trailer", strings.Repeat("x,", maxTrailerNames))}, true},
		"too many in two lines": {[]hpack.HeaderField{field("trailer", strings.Repeat("x,", 80)), field("trailer", strings.Repeat("y,", 80))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			size := uint32(limit)
			if strings.HasPrefix(name, "too many fields") || strings.HasPrefix(name, "as many") {
				size = 1 << 20
			}
			sent := newGuarded()
			for i := range 3 { // what the table remembers is decoded too
				sent.request(1+i, http2.HeadersFrameParam{}, tc.fields...)
				sent.request(1+i, http2.HeadersFrameParam{PadLength: 7}, tc.fields...)
				sent.request(1+i, http2.HeadersFrameParam{Priority: http2.PriorityParam{Weight: 3}}, tc.fields...)
				sent.request(1+i, http2.HeadersFrameParam{PadLength: 200, Priority: http2.PriorityParam{Weight: 3}}, tc.fields...)
			}
			for _, piece := range []int{1, 7, 9, 4096, 1 << 20} {
				g, b := newHeaderGuard(size), sent.Bytes()
				good := true
				for len(b) > 0 && good {
					n := min(piece, len(b))
					good = g.observe(b[:n])
					b = b[n:]
				}
				if tc.over == good || !tc.over && g.over != 0 || tc.over && g.over != maxOverLimit+1 {
					t.Errorf("in pieces of %d bytes: %d are over the limit, and it goes on: %t", piece, g.over, good)
				}
			}
		})
	}
}
