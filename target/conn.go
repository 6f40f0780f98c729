package target

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// targetConn is a connection to the target over which HTTP/1.1 goes. It tells
// when net/http closes it, which is how net/http's view of a connection that
// the target has ended, or spoken nonsense on, becomes known in time: RoundTrip
// returns only once all of the request's body is read, and a viewer may leave
// its upload open for ever.
type targetConn struct {
	netconn.Layer
	closed context.Context
	tell   context.CancelFunc
}

func newConn(c net.Conn) *targetConn {
	tc := &targetConn{Layer: netconn.Layer{Conn: c}}
	tc.closed, tc.tell = context.WithCancel(context.Background())
	return tc
}

// Close tells only once nothing can be written any more: see endedBody.
func (c *targetConn) Close() error {
	err := c.Conn.Close()
	c.tell()
	return err
}

// SetLinger is for what looks for it on a *net.TCPConn. A unix socket has none.
func (c *targetConn) SetLinger(sec int) error {
	if l, ok := c.Conn.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

// watched is RoundTrip of t, except that the end of its connection to the
// target ends the body of the request as well, until there is an answer.
func watched(t http.RoundTripper, r *http.Request) (*http.Response, error) {
	body, ok := r.Context().Value(bodyKey{}).(*endedBody)
	if !ok || r.Body == nil {
		return t.RoundTrip(r)
	}
	stop := func() bool { return true }
	defer func() { stop() }() // what the answer leaves of the upload is its own affair
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			stop()
			if c := http1Conn(i.Conn); c != nil {
				stop = context.AfterFunc(c.closed, body.end)
			}
		},
	}))
	r.Body = closedBody{r.Body, body}
	return t.RoundTrip(r)
}

// closedBody gives the body of a ReverseProxy's request the Close that it lost:
// that is what ends a Read in progress when a stream to an HTTP/2 target fails.
type closedBody struct {
	io.Reader
	io.Closer
}

// http1Conn returns what newConn made of c, or nil if c carries HTTP/2,
// where net/http closes the body of a stream that fails, and may have another
// connection read it.
func http1Conn(c net.Conn) *targetConn {
	if tc, ok := c.(*tls.Conn); ok {
		if tc.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		c = tc.NetConn()
	}
	tc, _ := c.(*targetConn)
	return tc
}

// endedBody is a request's body that ends, in the middle of a Read, with the
// connection it goes to.
type endedBody struct {
	io.ReadCloser
	ended atomic.Bool
}

// bodyKey is the context key of a request's *endedBody.
type bodyKey struct{}

// withEndedBody prepares r for watched, since a ReverseProxy hides the Close of
// the body it gets. It has to for HTTP/1.1, where Close waits for the viewer.
// The tunnel speaks HTTP/2, where Close ends a Read in progress.
func withEndedBody(r *http.Request) *http.Request {
	if r.ProtoMajor != 2 || r.Body == nil || r.Body == http.NoBody {
		return r
	}
	body := &endedBody{ReadCloser: r.Body}
	r = r.WithContext(context.WithValue(r.Context(), bodyKey{}, body))
	r.Body = body
	return r
}

func (b *endedBody) end() {
	b.ended.Store(true)
	_ = b.Close()
}

// Read returns io.EOF after end: net/http would prefer any other error to what
// went wrong with the connection. Nobody takes it for the end of the upload,
// since the connection is closed by then.
func (b *endedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && b.ended.Load() {
		err = io.EOF
	}
	return n, err
}
