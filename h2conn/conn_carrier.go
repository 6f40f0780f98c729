package h2conn

import (
	"io"
	"net"
	"sync"
	"time"
)

// carrier is the byte stream below a websocket: reads go straight to the
// network connection, writes through a combiner.
type carrier struct {
	r     io.Reader
	flood *flood
	*combiner

	closeOnce sync.Once
	closeErr  error
	gone      chan struct{} // closed when the carrier is closed
}

func newCarrier(r io.Reader, w io.WriteCloser, f *flood, writeTimeout time.Duration, masked bool) *carrier {
	return &carrier{r: r, flood: f, combiner: newCombiner(w, writeTimeout, masked), gone: make(chan struct{})}
}

func (c *carrier) Read(p []byte) (int, error) {
	if err := c.flood.err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.flood.arrived(n)
	return n, err
}

// Close lets what was written leave, within closeLinger, and closes.
func (c *carrier) Close() error {
	c.closeOnce.Do(func() {
		c.closeErr = c.combiner.Close()
		close(c.gone)
	})
	return c.closeErr
}

// kill closes the network connection without waiting for anything. Calls of Read,
// Write or Close that block return.
func (c *carrier) kill() { _ = c.abort(net.ErrClosed) }

// carrierConn is a carrier in the shape of a net.Conn, as a Hijacker has to
// return one.
type carrierConn struct {
	net.Conn // addresses and deadlines
	*carrier
}

func (c carrierConn) Read(p []byte) (int, error)         { return c.carrier.Read(p) }
func (c carrierConn) Write(p []byte) (int, error)        { return c.carrier.Write(p) }
func (c carrierConn) Close() error                       { return c.carrier.Close() }
func (c carrierConn) SetWriteDeadline(t time.Time) error { c.setWriteDeadline(t); return nil }
