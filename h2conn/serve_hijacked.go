package h2conn

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// maxResponseHead bounds the response head that a hijacking handler writes.
const maxResponseHead = 256 << 10

// hijackedConn is an HTTP/2 stream in the shape of the TCP connection that a
// hijacking handler expects. Deadlines work as on one: a read or write whose
// deadline has passed can be tried again after a new one is set, except that a
// write which times out halfway ends the stream.
type hijackedConn struct {
	u      *upgradeWriter
	local  net.Addr
	remote net.Addr

	read   *readAhead
	direct atomic.Bool           // DirectReader was called: nothing reads ahead
	inlet  atomic.Pointer[inlet] // of a directReader; nil: there is none

	writeMu sync.Mutex
	head    *bytes.Buffer  // response head so far; nil once it is complete
	pipe    *io.PipeWriter // non-nil while a refusal in HTTP/1.1 is translated
	piped   chan struct{}  // closed when that is done
	pipeErr error          // how that ended; to be read after piped is closed
	sent    int64          // bytes after the response head
	ended   bool           // CloseWrite was called

	deadlineMu    sync.Mutex
	writeDeadline time.Time
	writing       bool

	aborting  atomic.Bool // see SetLinger
	closeOnce sync.Once
	closed    chan struct{}
}

func newHijackedConn(u *upgradeWriter) *hijackedConn {
	c := &hijackedConn{
		u:      u,
		read:   newReadAhead(u.rest),
		closed: make(chan struct{}),
		remote: streamAddr(u.req.RemoteAddr),
		local:  streamAddr("stream"),
	}
	if a, ok := u.req.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		c.local = a
	}
	if !u.switched {
		c.head = new(bytes.Buffer)
	}
	return c
}

func (c *hijackedConn) Read(p []byte) (int, error) { return c.read.Read(p) }

// DirectReader returns what reads the bytes that Read would return, without the
// goroutine that reads ahead for the sake of deadlines: it obeys none. Close ends its
// Read. Once it was called, Read must not be.
func (c *hijackedConn) DirectReader() io.Reader {
	c.direct.Store(true)
	if on := c.u.on; on != nil && c.u.plain {
		if in := on.http2.openInlet(c.u.req.Context(), c.u.rest); in != nil {
			c.inlet.Store(in)
			select {
			case <-c.closed:
				on.http2.closeInlet(in)
			default:
			}
		}
	}
	return directReader{c}
}

type directReader struct{ c *hijackedConn }

func (r directReader) Read(p []byte) (int, error) {
	if n, ok := r.c.readInlet(p); ok {
		return n, nil
	}
	n, err := r.c.u.rest.Read(p)
	if err != nil {
		select {
		case <-r.c.closed:
			err = net.ErrClosed
		default:
		}
	}
	return n, err
}

// Write sends p to the peer. Until the response head is complete it gathers
// and translates that.
func (c *hijackedConn) Write(p []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	if c.ended {
		return 0, errWriteEnded
	}
	if err := c.beginWrite(); err != nil {
		return 0, err
	}
	defer c.endWrite()
	if c.head != nil {
		return c.writeHead(p)
	}
	if c.pipe != nil {
		return c.pipe.Write(p)
	}
	return c.writeStream(p)
}

// writeStream sends what follows the response head.
func (c *hijackedConn) writeStream(p []byte) (int, error) {
	var n int
	var err error
	if c.u.on != nil {
		n, err = writePieces(c.u.w, p, c.u.on)
	} else {
		n, err = c.u.w.Write(p)
	}
	c.sent += int64(n)
	if err == nil {
		err = c.u.rc.Flush()
	}
	return n, err
}

var errWriteEnded = errors.New("h2conn: write after CloseWrite")

// CloseWrite ends the direction towards the peer and leaves the other open, as
// on a TCP connection. Where the peer could not be told so, it fails with
// [errors.ErrUnsupported]: only Close remains then.
func (c *hijackedConn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	select {
	case <-c.closed:
		return net.ErrClosed
	default:
	}
	if c.u.id == "" || c.head != nil || c.pipe != nil {
		return errors.ErrUnsupported
	}
	if c.ended {
		return nil
	}
	m, err := json.Marshal(upgradeEnd{Type: typeUpgradeEnd, Upgrade: c.u.id, Bytes: c.sent})
	if err != nil {
		return err
	}
	if err := c.u.on.SendControl(m); err != nil {
		return err
	}
	if err := c.beginWrite(); err != nil {
		return err
	}
	defer c.endWrite()
	c.ended = true
	_, err = c.writeStream([]byte{0})
	return err
}

// beginWrite arms the stream's deadline for one write only. Left armed, it
// would reset the stream even while nothing is being written.
func (c *hijackedConn) beginWrite() error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	if !c.writeDeadline.IsZero() {
		if time.Until(c.writeDeadline) <= 0 {
			return os.ErrDeadlineExceeded
		}
		c.u.rc.SetWriteDeadline(c.writeDeadline)
	}
	c.writing = true
	return nil
}

func (c *hijackedConn) endWrite() {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	c.writing = false
	if !c.writeDeadline.IsZero() {
		c.u.rc.SetWriteDeadline(time.Time{})
	}
}

var endOfHead = []byte("\r\n\r\n")

func (c *hijackedConn) writeHead(p []byte) (int, error) {
	from := max(c.head.Len()-len(endOfHead)+1, 0) // the bytes before have no end of a head
	c.head.Write(p)
	all := c.head.Bytes()
	var resp *http.Response
	var end int
	for {
		i := bytes.Index(all[from:], endOfHead)
		if i < 0 {
			if len(all) > maxResponseHead {
				return 0, fmt.Errorf("h2conn: the handler wrote a response head over %d bytes", maxResponseHead)
			}
			c.head = bytes.NewBuffer(bytes.Clone(all))
			return len(p), nil
		}
		end = from + i + len(endOfHead)
		var err error
		resp, err = http.ReadResponse(bufio.NewReader(bytes.NewReader(all[:end])), c.u.req)
		if err != nil {
			return 0, fmt.Errorf("h2conn: the handler wrote a malformed response head: %w", err)
		}
		if resp.StatusCode >= 200 {
			return c.writeRefusal(p, all)
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		c.interim(resp)
		all, from = all[end:], 0
	}
	h := c.u.Header()
	clear(h) // what the handler set on the ResponseWriter does not count after Hijack
	maps.Copy(h, resp.Header)
	c.u.switchProtocols()
	c.head = nil
	if rest := all[end:]; len(rest) > 0 {
		if _, err := c.writeStream(rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// interim passes on a 1xx answer other than 101.
func (c *hijackedConn) interim(resp *http.Response) {
	h := c.takeHeader(resp)
	WriteHeader(c.u.w, resp.StatusCode)
	clear(h)
}

// writeRefusal starts translating an HTTP/1.1 response other than 101, of
// which all is the beginning and p the last part.
func (c *hijackedConn) writeRefusal(p, all []byte) (int, error) {
	c.head = nil
	pr, pw := io.Pipe()
	c.pipe, c.piped = pw, make(chan struct{})
	go func() {
		defer close(c.piped)
		c.pipeErr = c.translate(bufio.NewReader(pr))
		if c.pipeErr == nil {
			_, _ = io.Copy(io.Discard, pr) // what comes after the answer
		}
		pr.CloseWithError(c.pipeErr)
	}()
	if _, err := pw.Write(all); err != nil {
		return 0, err
	}
	return len(p), nil
}

// translate sends the one HTTP/1.1 response in br as an answer over HTTP/2.
func (c *hijackedConn) translate(br *bufio.Reader) error {
	resp, err := http.ReadResponse(br, c.u.req)
	if err != nil {
		return err
	}
	h := c.takeHeader(resp)
	c.u.w.WriteHeader(c.u.form.refused(h, resp.StatusCode))
	if err := c.u.rc.Flush(); err != nil {
		return err
	}
	_, err = io.Copy(flushingWriter{c.u}, resp.Body)
	return err
}

// takeHeader makes resp's header that of the answer. What the handler set on
// the ResponseWriter does not count after Hijack.
func (c *hijackedConn) takeHeader(resp *http.Response) http.Header {
	h := c.u.Header()
	clear(h)
	maps.Copy(h, resp.Header)
	clean(h)
	return h
}

type flushingWriter struct{ u *upgradeWriter }

func (w flushingWriter) Write(p []byte) (int, error) {
	n, err := w.u.w.Write(p)
	if err == nil {
		err = w.u.rc.Flush()
	}
	return n, err
}

// Close ends the stream: the handler that serves it returns. If the peer has
// not ended its direction by then it sees the stream reset without an error.
func (c *hijackedConn) Close() error {
	err := net.ErrClosed
	c.closeOnce.Do(func() {
		close(c.closed)
		c.read.close()
		if c.direct.Load() {
			c.u.body.Close()
			if in := c.inlet.Load(); in != nil {
				c.u.on.http2.closeInlet(in)
			}
		}
		c.deadlineMu.Lock()
		defer c.deadlineMu.Unlock()
		if c.writing { // it holds up the handler, and is not to be waited for
			c.u.rc.SetWriteDeadline(time.Unix(1, 0))
		}
		err = nil
	})
	return err
}

// SetLinger with 0 makes Close break the stream (RST_STREAM) instead of ending
// it, as it makes a [net.TCPConn] send a reset; any other value undoes that.
func (c *hijackedConn) SetLinger(sec int) error {
	c.aborting.Store(sec == 0)
	return nil
}

// awaitWrite waits for a write under way.
func (c *hijackedConn) awaitWrite() {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
}

// waitClosed waits until the connection is closed, or the stream is over. It panics
// with http.ErrAbortHandler if that must not look like a clean end.
func (c *hijackedConn) waitClosed(ctx context.Context) {
	select {
	case <-c.closed:
	case <-ctx.Done():
		c.Close()
	}
	// A write under way still uses the ResponseWriter.
	c.u.rc.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.pipe != nil {
		c.pipe.Close()
		<-c.piped
		if c.pipeErr != nil { // the answer is not whole, and must not look so
			panic(http.ErrAbortHandler)
		}
	}
	c.u.rc.SetWriteDeadline(time.Time{})
	if c.aborting.Load() {
		panic(http.ErrAbortHandler)
	}
	if c.head != nil && ctx.Err() == nil {
		// Closed without an answer: on TCP the peer would see a lost connection.
		panic(http.ErrAbortHandler)
	}
}

func (c *hijackedConn) LocalAddr() net.Addr  { return c.local }
func (c *hijackedConn) RemoteAddr() net.Addr { return c.remote }

func (c *hijackedConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *hijackedConn) SetReadDeadline(t time.Time) error {
	c.read.setDeadline(t)
	return nil
}

func (c *hijackedConn) SetWriteDeadline(t time.Time) error {
	c.deadlineMu.Lock()
	defer c.deadlineMu.Unlock()
	select {
	case <-c.closed:
		return net.ErrClosed // a write that Close has ended is to stay ended
	default:
	}
	c.writeDeadline = t
	if c.writing {
		return c.u.rc.SetWriteDeadline(t)
	}
	return nil
}

// streamAddr is an address known only by its text.
type streamAddr string

func (streamAddr) Network() string  { return "tcp" }
func (a streamAddr) String() string { return string(a) }
