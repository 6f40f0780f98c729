package h2conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	// MaxControlMessage is the size in bytes of the largest control message.
	MaxControlMessage = 16 << 10

	// closeTimeout bounds the close handshake: after it the connection is cut.
	closeTimeout = time.Second

	// maxRead is how much is read at a time.
	maxRead = 32 << 10

	// maxEmptyMessages is how many messages without a byte may follow each
	// other: they cost the sender nothing and the reader a loop.
	maxEmptyMessages = 64

	statusProtocolViolation = 4004

	// statusUnsent stands for a code that cannot be sent any more. It is none that a peer
	// sends: websocket's Close does not tell of the peer's if that is the same.
	statusUnsent = 4999
)

// ErrProtocol is wrapped by the error of a connection that this end gave up
// because of what the peer sent: close code 4004 tells the peer.
var ErrProtocol = errors.New("the peer broke the protocol")

// CloseError is the close code that the peer sent.
type CloseError struct {
	Code   int    // RFC 6455, section 7.4
	Reason string // may be empty
}

func (e *CloseError) Error() string {
	return fmt.Sprintf("the peer closed the websocket with code %d %q", e.Code, e.Reason)
}

// Conn is a byte stream over the binary messages of one websocket, with
// control messages beside it. It is a [net.Conn] that deviates in this:
//
//   - A read deadline that is set while a Read without any is already blocked
//     ends the connection when it passes, since part of a frame may have been
//     read. In all other cases a deadline only fails the call.
//   - Write returns when its bytes are accepted, not when they have left. A
//     peer that takes none for the write timeout ends the connection.
//   - Close sends the code set by SetCloseReason and waits for the peer's
//     answer, but never for more than about a second.
//   - Control messages and close frames arrive only during a Read.
type Conn struct {
	ws            *websocket.Conn
	carrier       *carrier
	socket        net.Conn // to which the carrier writes; nil: not known
	local, remote net.Addr
	onControl     func([]byte)      // set before the first Read
	ownControl    func([]byte) bool // likewise; whether it was the Transport's
	meter         *meter            // likewise; nil before HTTP/2
	onDone        func()            // likewise; nil: there is none
	http2         *http2Conn        // likewise

	start    time.Time
	lastRead atomic.Int64           // when HTTP/2 last got something, as time since start
	onPong   atomic.Pointer[func()] // nil: no Ping is unanswered

	writeMu sync.Mutex // held by Write, so that the messages of one stay together

	readMu  sync.Mutex
	reader  io.Reader // rest of the binary message being read; guarded by readMu
	readErr error     // that betweenMessages has met; likewise
	empty   int       // empty messages in a row; guarded by readMu

	mu           sync.Mutex
	reading      bool        // a Read is waiting for the network
	ahead        *readAhead  // non-nil once a read deadline was set
	readDeadline time.Time   // for a Read that began without readAhead
	readTimer    *time.Timer // likewise
	closeCode    int
	closeReason  string
	codeFixed    bool  // no other code is taken
	closing      bool  // Close is under way or done
	mute         bool  // nothing could be sent any more before Close
	err          error // first cause of the end

	closeOnce sync.Once
	doneOnce  sync.Once
	done      chan struct{}
}

var _ net.Conn = (*Conn)(nil)

func newConn(ws *websocket.Conn, c *carrier, local, remote net.Addr) *Conn {
	ws.SetReadLimit(-1) // messages are a stream: each is read in pieces
	return &Conn{
		ws: ws, carrier: c, local: local, remote: remote,
		closeCode: int(websocket.StatusNormalClosure),
		start:     time.Now(),
		done:      make(chan struct{}),
	}
}

// SilentFor returns for how long no byte of HTTP/2 has come from the peer. If that is
// longer than [Config.PingInterval], a ping is unanswered.
func (c *Conn) SilentFor() time.Duration {
	return time.Since(c.start) - time.Duration(c.lastRead.Load())
}

// Ping sends a ping of the websocket, beside those of HTTP/2, at the end that has dialled.
// The goroutine that reads calls answered at the answer, so it must not block. Ping waits
// for room in what is being written, and not for the answer. A later Ping replaces it.
func (c *Conn) Ping(answered func()) error {
	c.onPong.Store(&answered)
	if err := c.carrier.writeMessage(opPing, nil, true); err != nil {
		return c.failed(err)
	}
	return nil
}

// ponged is called when a pong has come.
func (c *Conn) ponged() {
	if f := c.onPong.Swap(nil); f != nil {
		(*f)()
	}
}

// OnControl sets the function that receives the control messages. It runs in
// the goroutine that reads, so it must not block, and it may keep b. It must
// be set before the first Read; without one, control messages are dropped. A
// [Transport] keeps upgrade_end messages to itself.
func (c *Conn) OnControl(f func(b []byte)) { c.onControl = f }

// OnDone sets a function that is called when Done has been closed. It must not block. It
// must be set before the first Read and Close.
func (c *Conn) OnDone(f func()) { c.onDone = f }

// SendControl sends b, at most [MaxControlMessage] bytes of UTF-8, as one
// control message. It may be called at any time from any goroutine.
func (c *Conn) SendControl(b []byte) error {
	if len(b) > MaxControlMessage {
		return fmt.Errorf("h2conn: control message has %d bytes: the limit is %d", len(b), MaxControlMessage)
	}
	if err := c.carrier.writeMessage(opText, b, true); err != nil {
		return c.muted(err)
	}
	return nil
}

// Read reads the next bytes of the stream. After the peer has closed with
// code 1000 or 1001 it returns io.EOF; any other end is an error.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.mu.Lock()
	ahead := c.ahead
	c.mu.Unlock()
	if ahead != nil {
		return ahead.Read(p)
	}
	return c.readDirect(p)
}

// readDirect reads without regard to deadlines set before it.
func (c *Conn) readDirect(p []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	c.mu.Lock()
	c.reading = true
	c.mu.Unlock()
	n, err := c.read(p)
	c.mu.Lock()
	c.reading = false
	c.mu.Unlock()
	if err != nil {
		var v *floodError
		if errors.As(err, &v) {
			err = c.violation(v.what)
		}
		err = c.broken(err)
		c.finish()
		var ce *CloseError
		if errors.As(err, &ce) && (ce.Code == int(websocket.StatusNormalClosure) || ce.Code == int(websocket.StatusGoingAway)) {
			err = io.EOF
		}
	}
	return n, err
}

func (c *Conn) read(p []byte) (int, error) {
	if c.readErr != nil {
		return 0, c.readErr
	}
	for {
		if c.reader == nil {
			if c.between() {
				c.carrier.wait()
			}
			typ, r, err := c.ws.Reader(context.Background())
			if err != nil {
				return 0, err
			}
			if typ == websocket.MessageText {
				if err := c.readControl(r); err != nil {
					return 0, err
				}
				continue
			}
			c.reader = r
		}
		// In pieces, for bytes that are read and not delivered yet count as overhead.
		n, err := c.reader.Read(p[:min(len(p), maxRead)])
		if err == io.EOF {
			c.reader, err = nil, nil
			if n == 0 {
				if c.empty++; c.empty > maxEmptyMessages {
					return 0, c.violation("too many empty messages")
				}
				continue
			}
		}
		if n > 0 {
			c.empty = 0
			c.carrier.flood.useful(n)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// betweenMessages is between for one who is not in Read.
func (c *Conn) betweenMessages() bool {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.reader != nil {
		if _, err := c.reader.Read(nil); err != io.EOF {
			c.readErr = err // the next one would be another
			return false
		}
		c.reader = nil
	}
	return c.between()
}

// between reports whether the websocket library has read no part of the next message.
// Close reads too, from the moment it has begun.
func (c *Conn) between() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.carrier.above != nil && !c.closing && c.carrier.above.Buffered() == 0
}

func (c *Conn) readControl(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxControlMessage+1))
	if err != nil {
		return err
	}
	if len(b) > MaxControlMessage {
		return c.violation(fmt.Sprintf("control message over %d bytes", MaxControlMessage))
	}
	c.carrier.flood.useful(len(b))
	if c.meter != nil && !c.meter.spendControl(len(b)) {
		return c.violation("too many control messages")
	}
	if c.ownControl != nil && c.ownControl(b) {
		return nil
	}
	if c.onControl != nil {
		c.onControl(b)
	}
	return nil
}

// violation ends the connection with code 4004, from within a Read.
func (c *Conn) violation(what string) error {
	err := fmt.Errorf("h2conn: %w: %s", ErrProtocol, what)
	_ = c.failed(err)
	c.SetCloseReason(statusProtocolViolation, what)
	c.mu.Lock()
	c.codeFixed = true
	c.mu.Unlock()
	go c.Close()
	<-c.carrier.gone
	return err
}

// Write writes p as binary messages.
func (c *Conn) Write(p []byte) (n int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	for len(p) > 0 {
		m := p[:min(len(p), c.quantum()+frameHeaderLen)] // a frame with its header
		if err := c.carrier.writeMessage(opBinary, m, false); err != nil {
			if err == os.ErrDeadlineExceeded { //nolint:errorlint // writeMessage's own
				return n, err
			}
			return n, c.muted(err)
		}
		p, n = p[len(m):], n+len(m)
	}
	return n, nil
}

// quantum is how many bytes at a time leave others their turn on the link.
func (c *Conn) quantum() int { return int(c.carrier.quantum.Load()) }

// finish closes done. By then the cause of the end is known: websocket closes
// the carrier before it tells a reader of the peer's close code, and a Write
// may fail even earlier, so neither of those may do it.
func (c *Conn) finish() {
	c.doneOnce.Do(func() {
		close(c.done)
		if c.onDone != nil {
			c.onDone()
		}
	})
}

// broken records the cause of the connection's end, which Read has met, cuts it off
// for the writer too, and returns the cause. If Close is under way, that cuts it off,
// after its close frame has left: websocket fails all writes from the moment it has one
// to send.
func (c *Conn) broken(err error) error {
	err = c.failed(err)
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return err
	}
	c.carrier.kill()
	c.carrier.Close()
	return err
}

// muted records that nothing can be sent any more, and returns the cause of the end.
// The peer may have said why it closed before that: what it sent is still read, for as
// long as a Close takes.
func (c *Conn) muted(err error) error {
	err = c.failed(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && !c.mute {
		c.mute = true
		time.AfterFunc(closeTimeout, c.carrier.kill)
	}
	return err
}

// failed records the cause of the connection's end and returns it. The peer's close
// frame counts before every other cause, also if both ends close at once.
func (c *Conn) failed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var ce websocket.CloseError
	if errors.As(err, &ce) {
		if echo := c.closing && !c.mute && int(ce.Code) == c.closeCode; !echo {
			c.err = &CloseError{Code: int(ce.Code), Reason: ce.Reason}
		}
	} else if c.err == nil {
		c.err = err
		if cause := c.carrier.cause(); cause != nil {
			c.err = cause
		}
	}
	if errors.Is(c.err, io.EOF) { // that of the socket; what is in flight has not ended
		return fmt.Errorf("%w: %s", io.ErrUnexpectedEOF, c.err.Error())
	}
	return c.err
}

// SetCloseReason sets the websocket close code and reason (at most 123 bytes)
// that Close will send. HTTP/2 closes the connection by itself when it is
// done, so set the code before asking for the end.
func (c *Conn) SetCloseReason(code int, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing && !c.codeFixed {
		c.closeCode, c.closeReason = code, reason
	}
}

// Abort closes the connection at once, without the time that Close gives the peer to
// answer. A Close that waits for that returns.
func (c *Conn) Abort() { c.carrier.kill() }

// CloseWith is SetCloseReason followed by Close.
func (c *Conn) CloseWith(code int, reason string) error {
	c.SetCloseReason(code, reason)
	return c.Close()
}

// Close closes the websocket. It returns when the connection is gone, which
// takes at most about a second however silent the peer is.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		code, reason := c.closeCode, c.closeReason
		if c.err == nil {
			c.err = net.ErrClosed
		}
		c.closing = true
		if c.mute {
			code = statusUnsent
		}
		if c.readTimer != nil {
			c.readTimer.Stop()
		}
		if c.ahead != nil {
			c.ahead.close()
		}
		c.mu.Unlock()
		c.carrier.flood.stop()
		t := time.AfterFunc(closeTimeout, c.carrier.kill)
		defer t.Stop()
		var ce websocket.CloseError
		if err := c.ws.Close(websocket.StatusCode(code), reason); errors.As(err, &ce) {
			_ = c.failed(err)
		}
		c.ws.CloseNow()
		c.carrier.Close()
		c.readMu.Lock() // a Read may have met the peer's close code, and not recorded it
		defer c.readMu.Unlock()
		c.finish()
	})
	<-c.done
	return nil
}

// Done is closed when the connection is gone and a Read or Close has met that.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns, once Done is closed, why the connection ended: a *[CloseError]
// if the peer sent a close code of its own accord, [net.ErrClosed] after
// Close. Before, nil.
func (c *Conn) Err() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return net.ErrClosed
	}
	return c.err
}

// LocalAddr returns the address of this end of the network connection.
func (c *Conn) LocalAddr() net.Addr { return addrOrUnknown(c.local) }

// RemoteAddr returns the address of the network connection's other end, which
// may be a proxy.
func (c *Conn) RemoteAddr() net.Addr { return addrOrUnknown(c.remote) }

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline sets the deadline of Write. A zero t means none.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.carrier.setWriteDeadline(t)
	return nil
}

// SetReadDeadline sets the deadline of Read. A zero t means none.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead == nil {
		if t.IsZero() {
			return nil
		}
		// From here on a goroutine reads ahead. HTTP/2 sets no read deadlines,
		// so that tunnels do not pay for it.
		c.ahead = newReadAhead(readerFunc(c.readDirect))
		if c.reading {
			c.readTimer = time.AfterFunc(0, c.readExpired)
		}
	}
	c.ahead.setDeadline(t)
	if c.readTimer != nil {
		c.readDeadline = t
		c.readTimer.Reset(max(time.Until(t), 0))
	}
	return nil
}

// readExpired ends the connection under a Read that began before there was
// any deadline.
func (c *Conn) readExpired() {
	c.mu.Lock()
	d := time.Until(c.readDeadline)
	expired := c.ahead.idle() && c.reading && !c.readDeadline.IsZero() && d <= 0
	if expired && c.err == nil {
		c.err = os.ErrDeadlineExceeded
	}
	c.mu.Unlock()
	if expired {
		c.carrier.kill()
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type unknownAddr struct{}

func (unknownAddr) Network() string { return "websocket" }
func (unknownAddr) String() string  { return "unknown" }

func addrOrUnknown(a net.Addr) net.Addr {
	if a == nil {
		return unknownAddr{}
	}
	return a
}
