package hostile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Opcodes of RFC 6455.
const (
	opMore, opText, opBinary = 0, 1, 2
	opClose, opPing, opPong  = 8, 9, 10
)

// client is a tunnel client that does as it is told. By itself it acknowledges
// settings and answers pings, and closes the connection when the service asks.
type client struct {
	nc net.Conn
	br *bufio.Reader

	requests chan request  // that viewers have made
	closed   chan struct{} // closed when the connection is over
	reading  sync.WaitGroup

	quiet bool          // answers nothing by itself; set before start
	deaf  atomic.Bool   // reads no more
	over  chan struct{} // closed by close
	once  sync.Once
	rest  []byte

	mu     sync.Mutex // of everything below
	framer *http2.Framer
	out    bytes.Buffer // that framer writes to
	enc    *hpack.Encoder
	block  bytes.Buffer // that enc writes to
	code   int          // close code of the service
	lost   error        // why there is no more to read, without a close frame
}

// request is one that a viewer has made.
type request struct {
	stream       uint32
	method, path string
	upgrade      bool
}

// dial registers the attacker. It does not speak HTTP/2 yet.
func dial(addr, id, token string) (*client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetWriteDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(nc, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: websocktunnel.h2.v1\r\n"+
		"Authorization: Bearer %s\r\nx-websocktunnel-id: %s\r\n\r\n", token, id)
	br := bufio.NewReaderSize(nc, 64<<10)
	resp, err := http.ReadResponse(br, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(resp.Status)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := &client{nc: nc, br: br, requests: make(chan request, 1000), closed: make(chan struct{}), over: make(chan struct{})}
	c.framer = http2.NewFramer(&c.out, nil)
	c.framer.AllowIllegalWrites = true
	c.enc = hpack.NewEncoder(&c.block)
	return c, nil
}

// close ends the connection and waits for its goroutine.
func (c *client) close() {
	c.nc.Close()
	c.once.Do(func() { close(c.over) })
	c.reading.Wait()
}

// start reads what comes.
func (c *client) start() {
	c.reading.Go(func() {
		defer close(c.closed)
		defer c.nc.Close()
		c.read()
	})
}

func (c *client) read() {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(readerFunc(c.stream), preface); err != nil {
		return
	}
	fr := http2.NewFramer(nil, readerFunc(c.stream))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		f, err := fr.ReadFrame()
		var se http2.StreamError
		if errors.As(err, &se) {
			continue
		}
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() && !c.quiet {
				c.h2(func(w *http2.Framer) { w.WriteSettingsAck() })
			}
		case *http2.PingFrame:
			if !f.IsAck() && !c.quiet {
				c.h2(func(w *http2.Framer) { w.WritePing(true, f.Data) })
			}
		case *http2.MetaHeadersFrame:
			r := request{f.StreamID, f.PseudoValue("method"), f.PseudoValue("path"), f.PseudoValue("protocol") != ""}
			select {
			case c.requests <- r:
			default:
			}
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// stream reads the bytes of the binary messages.
func (c *client) stream(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if c.deaf.Load() {
			<-c.over
			return 0, io.EOF
		}
		var h [2]byte
		if _, err := io.ReadFull(c.br, h[:]); err != nil {
			c.mu.Lock()
			c.lost = err
			c.mu.Unlock()
			return 0, err
		}
		n := uint64(h[1] & 0x7f)
		switch n {
		case 126:
			var l [2]byte
			if _, err := io.ReadFull(c.br, l[:]); err != nil {
				return 0, err
			}
			n = uint64(binary.BigEndian.Uint16(l[:]))
		case 127:
			var l [8]byte
			if _, err := io.ReadFull(c.br, l[:]); err != nil {
				return 0, err
			}
			n = binary.BigEndian.Uint64(l[:])
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c.br, b); err != nil {
			return 0, err
		}
		switch h[0] & 0xf {
		case opBinary, opMore:
			c.rest = b
		case opClose:
			c.mu.Lock()
			if len(b) >= 2 {
				c.code = int(binary.BigEndian.Uint16(b))
			}
			c.mu.Unlock()
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *client) closeCode() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.code
}

// wsFrame is a websocket frame whose mask changes nothing.
func wsFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// final marks the last frame of a message.
const final = 0x80

// ws sends one websocket message or control frame.
func (c *client) ws(op byte, payload []byte) error { return c.wire(wsFrame(final|op, payload)) }

// wire sends bytes as they stand.
func (c *client) wire(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.nc.Write(b)
	return err
}

func (c *client) text(s string) error { return c.ws(opText, []byte(s)) }

// raw sends bytes of HTTP/2 as they stand.
func (c *client) raw(b []byte) error { return c.ws(opBinary, b) }

// h2 sends the frames that f writes, in one message.
func (c *client) h2(f func(w *http2.Framer)) error {
	c.mu.Lock()
	c.out.Reset()
	f(c.framer)
	b := wsFrame(final|opBinary, c.out.Bytes())
	_, err := c.nc.Write(b)
	c.mu.Unlock()
	return err
}

// frames returns the bytes of the frames that f writes.
func frames(f func(w *http2.Framer)) []byte {
	var b bytes.Buffer
	w := http2.NewFramer(&b, nil)
	w.AllowIllegalWrites = true
	f(w)
	return b.Bytes()
}

// rawFrame is a frame of any type and length.
func rawFrame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) []byte {
	return frames(func(w *http2.Framer) { w.WriteRawFrame(kind, flags, stream, payload) })
}

// encode returns a header block. A name with a leading "!" is never put into
// the dynamic table.
func (c *client) encode(kv ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(kv); i += 2 {
		name, sensitive := strings.CutPrefix(kv[i], "!")
		c.enc.WriteField(hpack.HeaderField{Name: name, Value: kv[i+1], Sensitive: sensitive})
	}
	return bytes.Clone(c.block.Bytes())
}

// headers sends a header block, in as many frames as it takes.
func (c *client) headers(stream uint32, end bool, kv ...string) error {
	c.mu.Lock()
	block := c.encode(kv...)
	c.mu.Unlock()
	return c.headerBlock(stream, end, block)
}

func (c *client) headerBlock(stream uint32, end bool, block []byte) error {
	const most = 16 << 10
	return c.h2(func(w *http2.Framer) {
		first := block[:min(len(block), most)]
		rest := block[len(first):]
		w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0})
		for len(rest) > 0 {
			part := rest[:min(len(rest), most)]
			rest = rest[len(part):]
			w.WriteContinuation(stream, len(rest) == 0, part)
		}
	})
}

func (c *client) data(stream uint32, end bool, b string) error {
	return c.h2(func(w *http2.Framer) { w.WriteData(stream, end, []byte(b)) })
}

// ok answers properly.
func (c *client) ok(r request) error {
	if err := c.headers(r.stream, false, ":status", "200"); err != nil {
		return err
	}
	return c.data(r.stream, true, "ok")
}

// flood sends frame in messages of about 16 KiB until the connection is over.
func (c *client) flood(frame []byte) { c.floodWire(wsFrame(final|opBinary, repeat(frame))) }

func repeat(frame []byte) []byte { return bytes.Repeat(frame, max(1, 16<<10/len(frame))) }

// floodWire sends b again and again until the connection is over, or for
// longer than the service may need to end it.
func (c *client) floodWire(b []byte) {
	for end := time.Now().Add(2 * patience); time.Now().Before(end); {
		if c.wire(b) != nil {
			return
		}
	}
}
