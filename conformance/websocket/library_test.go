package websocket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	xnet "golang.org/x/net/websocket"
)

// conn is a websocket of any of the libraries, at either end.
type conn interface {
	// write sends a message in so many frames. errors.ErrUnsupported: the
	// library cannot.
	write(text bool, frames ...string) error

	// read returns the next message, or a closing if there is none.
	read() (text bool, message string, err error)

	// ping sends a ping. The payload may be the library's own choice.
	ping(payload string) error

	// close sends a close frame and says how the other end answered.
	close(code int, reason string) string

	// drop ends the connection without a close frame.
	drop()
}

// closing is how a websocket ended, as its reader sees it.
type closing struct {
	code   int
	reason string
}

func (c closing) Error() string { return fmt.Sprintf("closed %d %q", c.code, c.reason) }

const (
	noStatus = 1005 // a close frame without a code
	lost     = 1006 // no close frame
)

// options are what one end wants of a websocket.
type options struct {
	deflate bool
	seen    func(event string) // is told of pings and pongs
}

// subprotocol is the one that targets choose.
const subprotocol = "chat.v1"

// library is one of the libraries.
type library struct {
	name    string // of the package
	module  string
	deflate bool
	frames  bool // it can send a message in several

	// dial returns a websocket and what there was of the target's answer.
	dial func(t testing.TB, url string, o options) (c conn, answer string)

	// handler serves websockets. It sets a cookie in the 101.
	handler func(serve func(r *http.Request, open func(options) conn)) http.Handler
}

var libraries = []library{
	{
		name: "github.com/coder/websocket", module: "github.com/coder/websocket", deflate: true, frames: true,
		dial: func(t testing.TB, url string, o options) (conn, string) {
			d := &coder.DialOptions{
				HTTPClient:     &http.Client{Transport: &http.Transport{}},
				Subprotocols:   []string{"chat.v0", subprotocol},
				OnPingReceived: func(_ context.Context, p []byte) bool { o.seen("ping " + string(p)); return true },
				OnPongReceived: func(_ context.Context, p []byte) { o.seen("pong " + string(p)) },
			}
			if o.deflate {
				d.CompressionMode = coder.CompressionContextTakeover
			}
			c, resp, err := coder.Dial(t.Context(), url, d)
			if err != nil {
				t.Fatal(err)
			}
			return newCoderConn(c), head(resp)
		},
		handler: func(serve func(*http.Request, func(options) conn)) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				serve(r, func(o options) conn {
					http.SetCookie(w, &http.Cookie{Name: "ws", Value: "1"})
					c, err := coder.Accept(w, r, &coder.AcceptOptions{
						InsecureSkipVerify: true,
						Subprotocols:       []string{subprotocol},
						CompressionMode:    coder.CompressionContextTakeover,
						OnPingReceived:     func(_ context.Context, p []byte) bool { o.seen("ping " + string(p)); return true },
						OnPongReceived:     func(_ context.Context, p []byte) { o.seen("pong " + string(p)) },
					})
					if err != nil {
						return nil
					}
					return newCoderConn(c)
				})
			})
		},
	},
	{
		name: "github.com/gorilla/websocket", module: "github.com/gorilla/websocket", deflate: true, frames: true,
		dial: func(t testing.TB, url string, o options) (conn, string) {
			d := gorilla.Dialer{Subprotocols: []string{"chat.v0", subprotocol}, EnableCompression: o.deflate}
			c, resp, err := d.DialContext(t.Context(), url, nil)
			if err != nil {
				t.Fatal(err)
			}
			return newGorillaConn(c, o), head(resp)
		},
		handler: func(serve func(*http.Request, func(options) conn)) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				serve(r, func(o options) conn {
					up := gorilla.Upgrader{
						Subprotocols: []string{subprotocol}, EnableCompression: true,
						CheckOrigin: func(*http.Request) bool { return true },
					}
					c, err := up.Upgrade(w, r, http.Header{"Set-Cookie": {"ws=1"}})
					if err != nil {
						return nil
					}
					return newGorillaConn(c, o)
				})
			})
		},
	},
	{
		name: "golang.org/x/net/websocket", module: "golang.org/x/net",
		dial: func(t testing.TB, rawURL string, o options) (conn, string) {
			u, err := url.Parse(rawURL)
			if err != nil {
				t.Fatal(err)
			}
			nc, err := net.Dial("tcp", u.Host)
			if err != nil {
				t.Fatal(err)
			}
			cfg := &xnet.Config{Location: u, Origin: u, Version: xnet.ProtocolVersionHybi13, Protocol: []string{"chat.v0", subprotocol}}
			c, err := xnet.NewClient(cfg, nc)
			if err != nil {
				nc.Close()
				t.Fatal(err)
			}
			return newXNetConn(c, nc.Close, o), strings.Join(c.Config().Protocol, ",")
		},
		handler: func(serve func(*http.Request, func(options) conn)) http.Handler {
			return xnet.Server{
				Handshake: func(cfg *xnet.Config, _ *http.Request) error {
					cfg.Protocol = []string{subprotocol}
					cfg.Header = http.Header{"Set-Cookie": {"ws=1"}}
					return nil
				},
				Handler: func(c *xnet.Conn) {
					serve(c.Request(), func(o options) conn {
						// Its server ends the connection when the handler returns.
						return newXNetConn(c, func() error { return nil }, o)
					})
				},
			}
		},
	},
}

// head is what can be compared of a handshake's answer.
func head(resp *http.Response) string {
	h := resp.Header.Clone()
	h.Del("Sec-Websocket-Accept") // made of a random key
	h.Del("Date")
	var b strings.Builder
	fmt.Fprintln(&b, resp.StatusCode)
	h.Write(&b)
	return b.String()
}

// coderConn is a websocket of github.com/coder/websocket.
type coderConn struct {
	c      *coder.Conn
	ctx    context.Context
	cancel context.CancelFunc
	pings  sync.WaitGroup
}

func newCoderConn(c *coder.Conn) *coderConn {
	c.SetReadLimit(-1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	return &coderConn{c: c, ctx: ctx, cancel: cancel}
}

func (c *coderConn) write(text bool, frames ...string) error {
	kind := coder.MessageBinary
	if text {
		kind = coder.MessageText
	}
	if len(frames) == 1 {
		return c.c.Write(c.ctx, kind, []byte(frames[0]))
	}
	w, err := c.c.Writer(c.ctx, kind)
	if err != nil {
		return err
	}
	for _, f := range frames {
		if _, err := io.WriteString(w, f); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c *coderConn) read() (bool, string, error) {
	kind, p, err := c.c.Read(c.ctx)
	if ce := (coder.CloseError{}); errors.As(err, &ce) {
		err = closing{int(ce.Code), ce.Reason}
	} else if err != nil && c.ctx.Err() == nil {
		err = closing{lost, ""}
	}
	return kind == coder.MessageText, string(p), err
}

// ping does not wait for the pong, which takes a reader.
func (c *coderConn) ping(string) error {
	c.pings.Go(func() { c.c.Ping(c.ctx) })
	return nil
}

func (c *coderConn) close(code int, reason string) string {
	err := c.c.Close(coder.StatusCode(code), reason)
	return fmt.Sprint("clean: ", err == nil)
}

func (c *coderConn) drop() {
	c.c.CloseNow()
	c.cancel()
	c.pings.Wait()
}

// gorillaConn is a websocket of github.com/gorilla/websocket.
type gorillaConn struct{ c *gorilla.Conn }

func newGorillaConn(c *gorilla.Conn, o options) gorillaConn {
	deadline := time.Now().Add(patience)
	c.SetReadDeadline(deadline)
	c.SetWriteDeadline(deadline)
	pong := c.PingHandler() // the library's answer
	c.SetPingHandler(func(p string) error { o.seen("ping " + p); return pong(p) })
	c.SetPongHandler(func(p string) error { o.seen("pong " + p); return nil })
	return gorillaConn{c}
}

func (c gorillaConn) write(text bool, frames ...string) error {
	kind := gorilla.BinaryMessage
	if text {
		kind = gorilla.TextMessage
	}
	if len(frames) == 1 {
		return c.c.WriteMessage(kind, []byte(frames[0]))
	}
	w, err := c.c.NextWriter(kind) // which ends a frame when its buffer of 4 KiB is full
	if err != nil {
		return err
	}
	for _, f := range frames {
		if _, err := io.WriteString(w, f); err != nil {
			return err
		}
	}
	return w.Close()
}

func (c gorillaConn) read() (bool, string, error) {
	kind, p, err := c.c.ReadMessage()
	if ce := (*gorilla.CloseError)(nil); errors.As(err, &ce) && ce.Code != lost {
		err = closing{ce.Code, ce.Text}
	} else if err != nil && !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
		err = closing{lost, ""}
	}
	return kind == gorilla.TextMessage, string(p), err
}

func (c gorillaConn) ping(payload string) error {
	return c.c.WriteControl(gorilla.PingMessage, []byte(payload), time.Now().Add(patience))
}

func (c gorillaConn) close(code int, reason string) string {
	p := gorilla.FormatCloseMessage(code, reason)
	if err := c.c.WriteControl(gorilla.CloseMessage, p, time.Now().Add(patience)); err != nil {
		return err.Error()
	}
	return answered(c)
}

func (c gorillaConn) drop() { c.c.Close() }

// xnetConn is a websocket of golang.org/x/net/websocket. It is used frame by
// frame, since the library's own Read hides close codes and pongs.
type xnetConn struct {
	c    *xnet.Conn
	end  func() error
	o    options
	kind byte // of the message that a continuation belongs to
}

func newXNetConn(c *xnet.Conn, end func() error, o options) *xnetConn {
	c.SetDeadline(time.Now().Add(patience))
	return &xnetConn{c: c, end: end, o: o}
}

func (c *xnetConn) frame(kind byte, payload string) error {
	w, err := c.c.NewFrameWriter(kind)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, payload)
	return errors.Join(err, w.Close())
}

func (c *xnetConn) write(text bool, frames ...string) error {
	if len(frames) > 1 {
		return errors.ErrUnsupported
	}
	if text {
		return c.frame(xnet.TextFrame, frames[0])
	}
	return c.frame(xnet.BinaryFrame, frames[0])
}

// read takes each frame for a message, as the library does.
func (c *xnetConn) read() (bool, string, error) {
	for {
		f, err := c.c.NewFrameReader()
		if err != nil {
			if !isTimeout(err) {
				err = closing{lost, ""}
			}
			return false, "", err
		}
		kind := f.PayloadType()
		p, err := io.ReadAll(f)
		if err != nil {
			return false, "", closing{lost, ""}
		}
		switch kind {
		case xnet.PingFrame:
			c.o.seen("ping " + string(p))
			if err := c.frame(xnet.PongFrame, string(p)); err != nil {
				return false, "", closing{lost, ""}
			}
		case xnet.PongFrame:
			c.o.seen("pong " + string(p))
		case xnet.CloseFrame:
			if len(p) < 2 {
				return false, "", closing{noStatus, ""}
			}
			return false, "", closing{int(binary.BigEndian.Uint16(p)), string(p[2:])}
		case xnet.TextFrame, xnet.BinaryFrame:
			c.kind = kind
			return kind == xnet.TextFrame, string(p), nil
		default:
			return c.kind == xnet.TextFrame, string(p), nil
		}
	}
}

func (c *xnetConn) ping(payload string) error { return c.frame(xnet.PingFrame, payload) }

func (c *xnetConn) close(code int, reason string) string {
	var p []byte
	if code != noStatus {
		p = append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	}
	if err := c.frame(xnet.CloseFrame, string(p)); err != nil {
		return err.Error()
	}
	return answered(c)
}

func (c *xnetConn) drop() { c.end() }

// answered reads to the end.
func answered(c conn) string {
	for {
		if _, _, err := c.read(); err != nil {
			return err.Error()
		}
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
