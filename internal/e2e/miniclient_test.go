package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// This file is a second tunnel client, made from docs/protocol.md alone: it
// shares no code with the service or with package tunnelclient, so that the
// tests beside it show that the document is complete and true. Its sections
// follow the document's.

// ---- Websocket: RFC 6455 ----

const (
	wsText, wsBinary        = 1, 2
	wsClose, wsPing, wsPong = 8, 9, 10
)

// miniWS reads and writes websocket frames. The client's end sends them masked
// and gets them bare, the server's the other way round.
type miniWS struct {
	r      *bufio.Reader
	w      io.Writer
	client bool

	op   byte // of the message that part begins
	part []byte
}

func (ws *miniWS) write(op byte, payload []byte) error { return ws.writeFrame(true, op, payload) }

func (ws *miniWS) writeFrame(final bool, op byte, payload []byte) error {
	b := []byte{op}
	if final {
		b[0] |= 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	var key [4]byte // all zero changes nothing
	if ws.client {
		rand.Read(key[:])
		b[1] |= 0x80
		b = append(b, key[:]...)
	}
	start := len(b)
	b = append(b, payload...)
	xorMask(b[start:], key)
	_, err := ws.w.Write(b)
	return err
}

func xorMask(b []byte, key [4]byte) {
	for i := range b {
		b[i] ^= key[i%4]
	}
}

// next returns the next message, its fragments joined, or the next ping, pong
// or close, which may come between two fragments.
func (ws *miniWS) next() (byte, []byte, error) {
	for {
		var h [10]byte
		if _, err := io.ReadFull(ws.r, h[:2]); err != nil {
			return 0, nil, err
		}
		final, reserved, op, masked, n := h[0]&0x80 != 0, h[0]&0x70 != 0, h[0]&0xf, h[1]&0x80 != 0, uint64(h[1]&0x7f)
		if more := map[uint64]int{126: 2, 127: 8}[n]; more > 0 {
			if _, err := io.ReadFull(ws.r, h[10-more:]); err != nil {
				return 0, nil, err
			}
			n = binary.BigEndian.Uint64(h[2:]) // what was not read is zero
		}
		if reserved || masked == ws.client || n > 1<<20 {
			return 0, nil, fmt.Errorf("bad websocket frame % x", h)
		}
		var key [4]byte
		if masked {
			if _, err := io.ReadFull(ws.r, key[:]); err != nil {
				return 0, nil, err
			}
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(ws.r, b); err != nil {
			return 0, nil, err
		}
		xorMask(b, key)
		if op >= wsClose {
			return op, b, nil
		}
		if op != 0 {
			ws.op, ws.part = op, nil
		}
		ws.part = append(ws.part, b...)
		if final {
			return ws.op, ws.part, nil
		}
	}
}

func wsAccept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// wsHandshake asks for a websocket at http://<host><path>. If resp.StatusCode
// is 101 then ws is one, else it is nil.
func wsHandshake(nc net.Conn, host, path string, header ...string) (ws *miniWS, resp *http.Response, err error) {
	var random [16]byte
	rand.Read(random[:])
	key := base64.StdEncoding.EncodeToString(random[:])
	_, err = fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n%s\r\n\r\n", path, host, key, strings.Join(header, "\r\n"))
	if err != nil {
		return nil, nil, err
	}
	br := bufio.NewReader(nc)
	if resp, err = http.ReadResponse(br, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, resp, err
	}
	if resp.Header.Get("Sec-WebSocket-Accept") != wsAccept(key) {
		return nil, nil, errors.New("the 101 is not to this handshake")
	}
	return &miniWS{r: br, w: nc, client: true}, resp, nil
}

// ---- Registration: section 2 ----

const miniStreamWindow = 256 << 10 // that the service may fill

type miniClient struct {
	URL      string
	Controls chan miniControl // from the service
	Stalled  chan struct{}    // gets an element when an answer waits for its window

	nc      net.Conn
	ws      *miniWS
	framer  *http2.Framer
	handler func(*miniStream)
	in      []byte // the rest of the last binary message
	running sync.WaitGroup

	mu          sync.Mutex
	changed     sync.Cond // anything below
	out         []byte    // websocket frames on their way to the network
	chop        int       // if not 0, into fragments of how many bytes messages are cut
	chopped     int       // fragments so far
	closeSent   bool
	closeCode   int   // from the service
	err         error // if not nil, the session is over
	enc         *hpack.Encoder
	block       bytes.Buffer // what enc writes
	streams     map[uint32]*miniStream
	lastID      uint32
	window      int64 // of the connection, for what we send
	firstWindow int64 // of each new stream
	maxFrame    int
}

// miniRefused is a registration's answer other than 101.
type miniRefused struct{ *http.Response }

func (e miniRefused) Error() string { return "refused: " + e.Status }

// miniRegister starts a session whose streams handler answers, each in its own
// goroutine.
func miniRegister(serviceURL, id, token string, handler func(*miniStream)) (*miniClient, error) {
	host := strings.TrimPrefix(serviceURL, "http://")
	nc, err := net.Dial("tcp", host)
	if err != nil {
		return nil, err
	}
	ws, resp, err := wsHandshake(nc, host, "/", "Sec-WebSocket-Protocol: websocktunnel.h2.v1",
		"Authorization: Bearer "+token, "x-websocktunnel-id: "+id)
	if err == nil && ws == nil {
		err = miniRefused{resp}
	}
	if err == nil && (resp.Header.Get("Sec-WebSocket-Protocol") != "websocktunnel.h2.v1" || resp.Header.Get("x-websocktunnel-client-url") == "") {
		err = errors.New("not a service of this protocol")
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	c := &miniClient{
		URL: resp.Header.Get("x-websocktunnel-client-url"), Controls: make(chan miniControl, 64), Stalled: make(chan struct{}, 1),
		nc: nc, ws: ws, handler: handler,
		streams: make(map[uint32]*miniStream), window: 65535, firstWindow: 65535, maxFrame: 16384, // RFC 9113's defaults
	}
	c.changed.L = &c.mu
	ws.w = (*miniQueue)(c)
	c.enc = hpack.NewEncoder(&c.block)
	c.framer = http2.NewFramer((*miniMessages)(c), c)
	c.framer.SetMaxReadFrameSize(16384)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.framer.MaxHeaderListSize = 128 << 10
	c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 100},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: miniStreamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.framer.MaxHeaderListSize})
	c.running.Go(c.readFrames)
	c.running.Go(c.flush)
	return c, nil
}

// Close breaks the connection, if it is still there, and waits for everything.
func (c *miniClient) Close() {
	c.nc.Close()
	c.running.Wait()
}

// ---- Inside the websocket: section 4 ----

// Read reads the stream of bytes that the binary messages are.
func (c *miniClient) Read(p []byte) (int, error) {
	for len(c.in) == 0 {
		op, msg, err := c.ws.next()
		if err != nil {
			return 0, err
		}
		switch op {
		case wsBinary:
			c.in = msg
		case wsText:
			var m miniControl
			if json.Unmarshal(msg, &m) == nil {
				select {
				case c.Controls <- m:
				default:
				}
			}
		case wsPing:
			c.do(func() { c.ws.write(wsPong, msg) })
		case wsClose: // answer; the service then closes the connection
			c.do(func() {
				c.closeCode = 1005
				if len(msg) >= 2 {
					c.closeCode = int(binary.BigEndian.Uint16(msg))
				}
				c.ws.write(wsClose, msg[:min(len(msg), 2)])
				c.closeSent = true
			})
		}
	}
	n := copy(p, c.in)
	c.in = c.in[n:]
	return n, nil
}

// miniMessages makes binary messages of what is written to it.
type miniMessages miniClient

func (c *miniMessages) Write(p []byte) (int, error) {
	n, op := len(p), byte(wsBinary)
	for ; c.chop > 0 && len(p) > c.chop; p, op = p[c.chop:], 0 {
		c.ws.writeFrame(false, op, p[:c.chop])
		if c.chopped++; c.chopped%200 == 0 { // the service bears no flood of them
			c.ws.write(wsPing, []byte("between"))
		}
	}
	return n, c.ws.write(op, p)
}

// miniQueue queues websocket frames: so reading never waits for writing.
type miniQueue miniClient

func (c *miniQueue) Write(p []byte) (int, error) {
	if !c.closeSent {
		c.out = append(c.out, p...)
	}
	return len(p), nil
}

func (c *miniClient) flush() {
	for over := false; !over; {
		var b []byte
		c.when(func() bool { return len(c.out) > 0 }, func() { b, c.out, over = c.out, nil, c.err != nil })
		if _, err := c.nc.Write(b); err != nil {
			c.nc.Close() // readFrames sees it
		}
	}
}

// do changes the state, or queues frames.
func (c *miniClient) do(f func()) { c.when(func() bool { return true }, f) }

// when does it as soon as cond holds or the session is over.
func (c *miniClient) when(cond func() bool, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && !cond() {
		c.changed.Wait()
	}
	f()
	c.changed.Broadcast()
}

// ---- HTTP/2: section 5 ----

func (c *miniClient) readFrames() {
	preface := make([]byte, len(http2.ClientPreface))
	_, err := io.ReadFull(c, preface)
	if err == nil && string(preface) != http2.ClientPreface {
		err = errors.New("no preface")
	}
	for err == nil {
		var f http2.Frame
		f, err = c.framer.ReadFrame()
		if bad := (http2.StreamError{}); errors.As(err, &bad) {
			err = nil
			c.do(func() { c.framer.WriteRSTStream(bad.StreamID, http2.ErrCodeInternal) })
		} else if err == nil {
			c.do(func() { err = c.frame(f) })
		}
	}
	c.do(func() {
		c.err = err
		for _, st := range c.streams {
			st.fail(err)
		}
	})
	c.nc.Close()
}

func (c *miniClient) frame(f http2.Frame) error {
	st := c.streams[f.Header().StreamID] // may be nil: then the stream is over
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, st := range c.streams {
				st.window += int64(v) - c.firstWindow
			}
			c.firstWindow = int64(v)
		}
		if v, ok := f.Value(http2.SettingMaxFrameSize); ok {
			c.maxFrame = int(v)
		}
		if v, ok := f.Value(http2.SettingHeaderTableSize); ok {
			c.enc.SetMaxDynamicTableSize(min(v, 4096))
		}
		return c.framer.WriteSettingsAck()
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.framer.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int64(f.Increment)
		} else if st != nil {
			st.window += int64(f.Increment)
		}
	case *http2.MetaHeadersFrame:
		if st != nil {
			st.trailer, st.eof = miniHeader(f), true
		} else if f.StreamID > c.lastID {
			c.open(f)
		}
	case *http2.DataFrame:
		// Connection credit comes back as bytes arrive, a stream's as they
		// are read.
		if f.Length > 0 {
			c.framer.WriteWindowUpdate(0, f.Length)
		}
		if st == nil {
			return nil
		}
		if st.credit -= int64(f.Length); st.credit < 0 {
			return errors.New("the service sends more than the window")
		}
		if padding := f.Length - uint32(len(f.Data())); padding > 0 {
			st.giveCredit(padding)
		}
		st.in = append(st.in, f.Data()...)
		st.eof = f.StreamEnded()
	case *http2.RSTStreamFrame:
		if st != nil {
			st.fail(http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode})
		}
	}
	return nil
}

// ---- A request and its answer: sections 6 to 8 ----

type miniStream struct {
	method, path, authority string
	header, trailer         http.Header   // trailer when Read has returned io.EOF
	gone                    chan struct{} // closed when the viewer or the session has gone

	c      *miniClient
	id     uint32
	in     []byte
	eof    bool  // END_STREAM has come
	ended  bool  // END_STREAM has been sent
	err    error // reset
	window int64 // for the answer
	credit int64 // for the request
}

func miniHeader(f *http2.MetaHeadersFrame) http.Header {
	h := make(http.Header)
	for _, hf := range f.RegularFields() {
		h.Add(hf.Name, hf.Value)
	}
	return h
}

func (c *miniClient) open(f *http2.MetaHeadersFrame) {
	st := &miniStream{
		method: f.PseudoValue("method"), path: f.PseudoValue("path"), authority: f.PseudoValue("authority"),
		header: miniHeader(f), gone: make(chan struct{}),
		c: c, id: f.StreamID, eof: f.StreamEnded(), window: c.firstWindow, credit: miniStreamWindow,
	}
	c.lastID, c.streams[st.id] = st.id, st
	c.running.Go(func() {
		c.handler(st)
		c.do(func() {
			switch {
			case st.err != nil:
			case !st.ended: // the target broke
				c.framer.WriteRSTStream(st.id, http2.ErrCodeInternal)
			case !st.eof: // the rest of the request is not wanted
				c.framer.WriteRSTStream(st.id, http2.ErrCodeNo)
			}
			delete(c.streams, st.id)
		})
	})
}

func (st *miniStream) fail(err error) {
	if st.err == nil {
		st.err = err
		close(st.gone)
	}
}

func (st *miniStream) giveCredit(n uint32) {
	st.credit += int64(n)
	st.c.framer.WriteWindowUpdate(st.id, n)
}

// Read reads the request's body.
func (st *miniStream) Read(p []byte) (n int, err error) {
	st.c.when(func() bool { return st.err != nil || len(st.in) > 0 || st.eof }, func() {
		n = copy(p, st.in)
		st.in = st.in[n:]
		switch {
		case n == 0 && st.err != nil:
			err = st.err
		case n == 0:
			err = io.EOF
		case st.err == nil && !st.eof:
			st.giveCredit(uint32(n))
		}
	})
	return n, err
}

// headers sends names and values, and END_STREAM if end: a status with its
// header, or trailers.
func (st *miniStream) headers(end bool, nameValue ...string) {
	c := st.c
	c.do(func() {
		if st.err != nil {
			return
		}
		st.ended = end
		c.block.Reset()
		for i := 0; i < len(nameValue); i += 2 {
			c.enc.WriteField(hpack.HeaderField{Name: nameValue[i], Value: nameValue[i+1]})
		}
		rest := c.block.Bytes()
		part := rest[:min(len(rest), c.maxFrame)]
		rest = rest[len(part):]
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: st.id, BlockFragment: part, EndStream: end, EndHeaders: len(rest) == 0})
		for len(rest) > 0 {
			part, rest = rest[:min(len(rest), c.maxFrame)], rest[min(len(rest), c.maxFrame):]
			c.framer.WriteContinuation(st.id, len(rest) == 0, part)
		}
	})
}

// Write sends a piece of the answer's body, as fast as the windows allow.
func (st *miniStream) Write(p []byte) (n int, err error) {
	c := st.c
	for n < len(p) && err == nil {
		c.when(func() bool {
			if st.window <= 0 && len(c.Stalled) == 0 {
				c.Stalled <- struct{}{}
			}
			return st.err != nil || st.window > 0 && c.window > 0 && len(c.out) < 1<<20
		}, func() {
			if err = st.err; err == nil {
				size := min(int64(len(p)-n), int64(c.maxFrame), st.window, c.window)
				c.framer.WriteData(st.id, false, p[n:n+int(size)])
				n, st.window, c.window = n+int(size), st.window-size, c.window-size
			}
		})
	}
	return n, err
}

// closeWrite ends the answer, or its direction of an upgraded stream.
func (st *miniStream) closeWrite(trailers ...string) {
	if len(trailers) > 0 {
		st.headers(true, trailers...)
		return
	}
	st.c.do(func() {
		if st.err == nil && !st.ended {
			st.ended = true
			st.c.framer.WriteData(st.id, true, nil)
		}
	})
}

func (st *miniStream) answer(status, body string, nameValue ...string) {
	st.headers(false, append([]string{":status", status, "content-length", strconv.Itoa(len(body))}, nameValue...)...)
	io.WriteString(st, body)
	st.closeWrite()
}

// ---- Upgrades in the fallback form: section 9 ----

// upgradeBody reads the request's body that stands before the new protocol,
// whose bytes follow in r.
func (st *miniStream) upgradeBody(r *bufio.Reader) ([]byte, error) {
	framing := st.header.Get("x-websocktunnel-upgrade-body")
	if framing == "" {
		return nil, nil
	}
	if framing != "chunked" {
		n, err := strconv.Atoi(framing)
		if err != nil {
			return nil, err
		}
		body := make([]byte, n)
		_, err = io.ReadFull(r, body)
		return body, err
	}
	var body []byte
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseUint(strings.TrimSuffix(line, "\r\n"), 16, 20)
		if err != nil {
			return nil, err
		}
		chunk := make([]byte, size+2) // with CRLF
		if _, err := io.ReadFull(r, chunk); err != nil {
			return nil, err
		}
		if size == 0 {
			return body, nil
		}
		body = append(body, chunk[:size]...)
	}
}

// acceptWebsocket is the target of a websocket handshake.
func (st *miniStream) acceptWebsocket(nameValue ...string) *miniWS {
	st.headers(false, append([]string{":status", "200", "x-websocktunnel-upgrade", "websocket",
		"sec-websocket-accept", wsAccept(st.header.Get("Sec-WebSocket-Key"))}, nameValue...)...)
	return &miniWS{r: bufio.NewReader(st), w: st}
}

// ---- Control messages and the end: sections 10 and 11 ----

type miniControl struct {
	Type             string `json:"type"`
	Token            string `json:"token,omitempty"`
	OK               bool   `json:"ok,omitempty"`
	Exp              int64  `json:"exp,omitempty"`
	Reason           string `json:"reason,omitempty"`
	ReconnectAfterMS int64  `json:"reconnect_after_ms,omitempty"`
}

func (c *miniClient) control(m miniControl) {
	b, _ := json.Marshal(m)
	c.do(func() { c.ws.write(wsText, b) })
}

// stop ends the session without losing a request: no new ones, those in flight
// are finished, then the close frames.
func (c *miniClient) stop() {
	c.control(miniControl{Type: "goaway"})
	c.do(func() { c.framer.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) })
	c.when(func() bool { return len(c.streams) == 0 }, func() {
		c.ws.write(wsClose, binary.BigEndian.AppendUint16(nil, 1000))
		c.closeSent = true
	})
	c.nc.SetReadDeadline(time.Now().Add(5 * time.Second))
	c.running.Wait()
}

// wait waits for the end of the session and returns the service's close code.
func (c *miniClient) wait() int {
	c.running.Wait()
	return c.closeCode
}
