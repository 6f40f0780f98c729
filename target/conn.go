package target

import (
	"context"
	"io"
	"net"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// conn is a connection to the target over which HTTP/1.1 goes. It looks at the
// headers of answers: see headReader.
//
// It also tells when net/http closes it, which is how net/http's view of a
// connection that the target has ended, or sent invalid HTTP on, becomes known in
// time: RoundTrip returns only once all of the request's body is read, and a viewer
// may leave its upload open for ever.
type conn struct {
	netconn.Layer
	head   headReader
	closed context.Context
	tell   context.CancelFunc
}

func newConn(c net.Conn) *conn {
	tc := &conn{Layer: netconn.Layer{Conn: c}}
	tc.head.expect()
	tc.closed, tc.tell = context.WithCancel(context.Background())
	return tc
}

func (c *conn) Read(p []byte) (int, error) { return c.head.read(p, c.Conn.Read) }

// ReadFrom is what net/http copies the body of a request with. One whose length is known
// comes as an [io.LimitedReader].
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader)
	buf := getCopyBuffer(ok && limited.N >= bulkBufferSize)
	defer putCopyBuffer(buf)
	return io.CopyBuffer(struct{ io.Writer }{c.Conn}, r, buf)
}

// Close tells only once nothing can be written any more: see requestBody.end.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.tell()
	return err
}

// NetConn returns the connection to the target's system, beneath TLS.
func (c *conn) NetConn() net.Conn { return netconn.Bottom(c.Conn) }

// http1Conn returns what newConn made of c, or nil if c carries HTTP/2. There
// net/http closes the body of a stream that fails, and may have another connection
// read it.
func http1Conn(c net.Conn) *conn {
	tc, _ := c.(*conn)
	return tc
}
