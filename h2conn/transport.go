package h2conn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Defaults of the asking end. A stream's window bounds what one request can
// have under way; the connection's is what one tunnel can make the service
// hold. frames_window.go has what they have to do with each other.
const (
	askingStreamWindow   = 8 << 20
	askingConnWindow     = 256 << 20
	askingMaxHeaderBytes = 256 << 10
	askingMaxFrameSize   = 256 << 10

	// expectContinueTimeout is how long a request body with "Expect:
	// 100-continue" waits for the target to ask for it.
	expectContinueTimeout = time.Second
)

// Transport is the asking end of HTTP/2 over one [Conn]: an
// [http.RoundTripper] whose every request goes to the one peer. The host in the
// request's URL does not matter. It is safe for concurrent use.
type Transport struct {
	conn *Conn
	cc   *http2.ClientConn
	peer *peerSettings

	noExtendedConnect bool

	pinger   pinger
	goneAway chan struct{} // closed when the peer has sent GOAWAY
	ended    atomic.Bool   // x/net has refused a request; net/http's wrapper tells it late

	upgrades openUpgrades
}

var _ http.RoundTripper = (*Transport)(nil)

// NewTransport takes over c and starts HTTP/2 on it. It does not wait for the
// peer; Ping does.
func NewTransport(c *Conn, cfg TransportConfig) (*Transport, error) {
	t := &Transport{conn: c, peer: newPeerSettings(0), noExtendedConnect: cfg.NoExtendedConnect, goneAway: make(chan struct{})}
	m := newMeter(0, int(defaultInt(cfg.MaxFrameSize, askingMaxFrameSize)), true)
	m.grows(newStreamWindows(int64(defaultInt(cfg.StreamWindow, askingStreamWindow)), int64(defaultInt(cfg.ConnWindow, askingConnWindow))))
	m.goneAway = func() {
		select {
		case <-t.goneAway: // not the first
			return
		default:
		}
		close(t.goneAway)
		if cfg.GoneAway != nil {
			cfg.GoneAway()
		}
	}
	m.pings.start, m.pings.answered = time.Now(), cfg.PingAnswered
	t2, err := sharedTransport(cfg.Config)
	if err != nil {
		c.Close()
		return nil, err
	}
	c.ownControl = t.upgrades.control
	h := newHTTP2Conn(c, t.peer, m, cfg.Config, cfg.Memory)
	if findsClientBuffers {
		h.started = make(chan struct{})
	}
	t.keepAlive(h, cfg.Config)
	t.cc, err = t2.NewClientConn(h)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("h2conn: starting HTTP/2: %w", err)
	}
	if started := h.started; started != nil {
		h.buffers = buffersOf(t.cc)
		h.buffers.shrinkWriter(0)
		forgetsSoon(t.cc)
		close(started)
	}
	t.pinger.start()
	return t, nil
}

// sharedTransports has one http2.Transport per Config, for it is only
// configuration here, and thousands of connections share a Config.
var sharedTransports sync.Map // Config → *http2.Transport

func sharedTransport(cfg Config) (*http2.Transport, error) {
	if t, ok := sharedTransports.Load(cfg); ok {
		return t.(*http2.Transport), nil
	}
	// x/net takes the receive windows from net/http's Transport only. Never
	// http.DefaultTransport: its IdleConnTimeout would end idle tunnels.
	t1 := &http.Transport{
		DisableCompression:     true, // pass on what the target sends
		MaxResponseHeaderBytes: int64(defaultInt(cfg.MaxHeaderBytes, askingMaxHeaderBytes)),
		ExpectContinueTimeout:  expectContinueTimeout,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: int(defaultInt(cfg.ConnWindow, askingConnWindow)),
			MaxReceiveBufferPerStream:     int(defaultInt(cfg.StreamWindow, askingStreamWindow)),
		},
	}
	t2, err := http2.ConfigureTransports(t1)
	if err != nil {
		return nil, fmt.Errorf("h2conn: configuring HTTP/2: %w", err)
	}
	t2.DisableCompression = true
	t2.AllowHTTP = true
	t2.MaxReadFrameSize = defaultInt(cfg.MaxFrameSize, askingMaxFrameSize)
	t2.MaxHeaderListSize = defaultInt(cfg.MaxHeaderBytes, askingMaxHeaderBytes)
	t2.StrictMaxConcurrentStreams = true // wait for a slot rather than fail
	actual, _ := sharedTransports.LoadOrStore(cfg, t2)
	return actual.(*http2.Transport), nil
}

// RoundTrip sends req to the peer and returns its answer. Hop-by-hop headers
// and this package's private ones do not cross. The body of a request with
// "Expect: 100-continue" is read when the target asks for it, or after 1 s.
//
// A request with an Upgrade header returns either the peer's refusal or a 101
// response whose Body is an [io.ReadWriteCloser] with a CloseWrite method. Each
// direction of it ends by itself: Read returns [io.EOF], CloseWrite ends the
// other. Close after both have ended waits, for a minute at most, until the peer
// has all bytes.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if !fieldsWithin(req.Header) {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, errTooManyFields
	}
	if p := upgradeProtocol(req.Header); p != "" {
		return t.roundTripUpgrade(req, p)
	}
	expects := expectsContinue(req.Header)
	hasBody := req.Body != nil && req.Body != http.NoBody
	unclean := expects || hasUncarried(req.Header) || !isTidy(req.Header)
	if hasBody || unclean || req.Close {
		out := *req
		out.Close = false
		if hasBody {
			out.Body = &pacedBody{req.Body, t.conn}
		}
		if unclean {
			out.Header = req.Header.Clone()
			clean(out.Header)
			if expects {
				out.Header.Set(HeaderExpect, "100-continue")
			}
		}
		req = &out
	}
	resp, err := t.cc.RoundTrip(req)
	if err != nil {
		return nil, t.wrap(err)
	}
	clean(resp.Header)
	return resp, nil
}

// pacedBody is a request body that is read in pieces of at most the
// connection's quantum, of which x/net makes a frame each. It has no state:
// x/net closes it, and so the body, when the request is over.
type pacedBody struct {
	io.ReadCloser
	conn *Conn
}

func (b *pacedBody) Read(p []byte) (int, error) {
	return b.ReadCloser.Read(p[:min(len(p), b.conn.quantum())])
}

// ErrUnprocessed is what an error of [Transport.RoundTrip] wraps where the peer
// says that it has done nothing with the request, which may be sent again however
// it is (RFC 9113, section 8.7): it has reset the stream with REFUSED_STREAM, or
// named an earlier one as the last in its GOAWAY.
var ErrUnprocessed = errors.New("the peer has not processed the request")

// unprocessed reports whether err is of such a request. x/net has no error value
// or type for GOAWAY.
func unprocessed(err error) bool {
	var reset http2.StreamError
	if errors.As(err, &reset) {
		return reset.Code == http2.ErrCodeRefusedStream
	}
	return strings.Contains(err.Error(), "received Server's graceful shutdown GOAWAY") ||
		strings.Contains(err.Error(), "Transport received GOAWAY from server")
}

// BrokenOff reports whether err, of [Transport.RoundTrip] or of a Read of the answer's
// body, says that the peer broke this one answer off: it reset the stream with
// INTERNAL_ERROR, as net/http's and x/net's servers do for a handler that panics, or
// ended the stream before the answer was as long as it said. Where the connection broke,
// or the peer cancelled the request, it has not.
func (t *Transport) BrokenOff(err error) bool {
	var reset http2.StreamError
	if errors.As(err, &reset) {
		return reset.Code == http2.ErrCodeInternal
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	select {
	case <-t.conn.Done(): // x/net reports the end of a connection so as well
		return false
	default:
		return true
	}
}

// wrap adds to an error what it means, and why the connection ended, if it has.
func (t *Transport) wrap(err error) error {
	if unprocessed(err) {
		return fmt.Errorf("%w: %w", ErrUnprocessed, err)
	}
	if text := err.Error(); strings.Contains(text, "client conn could not be established") || strings.Contains(text, "client conn not usable") {
		t.ended.Store(true)
	}
	select {
	case <-t.conn.Done():
		return fmt.Errorf("%w (connection lost: %w)", err, t.conn.Err())
	default:
		return err
	}
}

// Ping returns when the peer has answered an HTTP/2 ping, which it does only
// after it has taken this end's settings. ctx bounds the wait.
func (t *Transport) Ping(ctx context.Context) error {
	if err := t.cc.Ping(ctx); err != nil {
		return t.wrap(fmt.Errorf("h2conn: ping: %w", err))
	}
	return nil
}

// MaxConcurrentStreams returns how many streams the peer accepts at once, as its
// first SETTINGS said. These have arrived once Ping has returned; before, or if
// they set no limit, it reports false.
func (t *Transport) MaxConcurrentStreams() (n uint32, ok bool) {
	select {
	case <-t.peer.ready:
		return t.peer.maxStreams, t.peer.hasMaxStreams
	default:
		return 0, false
	}
}

// ExtendedConnect reports whether upgrades to the peer take the form of
// extended CONNECT rather than the fallback. It is settled once Ping has
// returned.
func (t *Transport) ExtendedConnect() bool {
	select {
	case <-t.peer.ready:
		return ExtendedConnect && !t.noExtendedConnect && t.peer.extendedConnect
	default:
		return false
	}
}

// Usable reports whether the Transport takes new requests. It does not once
// the connection is gone or the peer has sent GOAWAY: x/net then lets requests in
// flight finish and waits for the owner to close.
func (t *Transport) Usable() bool { return !t.ended.Load() && t.cc.CanTakeNewRequest() }

// GoneAway is closed when the peer has sent a GOAWAY frame.
func (t *Transport) GoneAway() <-chan struct{} { return t.goneAway }

// Done is closed when the connection is gone.
func (t *Transport) Done() <-chan struct{} { return t.conn.Done() }

// Err returns why the connection ended, once Done is closed; before, nil.
func (t *Transport) Err() error { return t.conn.Err() }

// Shutdown lets the requests in flight finish and then closes the connection
// with the code set by [Conn.SetCloseReason]. If ctx ends first it returns
// its error, and the connection stays open for Close.
func (t *Transport) Shutdown(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- t.cc.Shutdown(ctx) }()
	select {
	case err := <-done:
		if err == nil {
			return t.conn.Close()
		}
		return err
	case <-ctx.Done(): // Shutdown itself waits for a blocked write
		return ctx.Err()
	case <-t.conn.Done():
		return nil
	}
}

// Close closes the connection at once. Requests in flight fail.
func (t *Transport) Close() error { return t.conn.Close() }
