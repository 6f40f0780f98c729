package h2conn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/coder/websocket"
)

// Sizes of the buffers under an accepted websocket. Thousands of them are
// idle, and bulk data passes large buffers by; see docs/adr.
const (
	acceptReadBuffer  = 64      // an answer to a ping; the carrier reads ahead
	acceptWriteBuffer = 2 + 125 // a whole control frame; messages pass it by
)

// AcceptOptions tunes [Accept].
type AcceptOptions struct {
	// Subprotocol is the websocket subprotocol to select. Empty: none. Accept
	// refuses a client that does not offer it.
	Subprotocol string

	// Header is added to the 101 answer.
	Header http.Header

	// WriteTimeout is how long the peer may take no bytes at all before this
	// end gives up the connection; HTTP/2 sets no other limit for a stuck write.
	// Zero means 10 s, negative no limit.
	WriteTimeout time.Duration
}

// Accept upgrades r to a websocket and returns a [Conn] over it. If it cannot,
// it writes the refusal to w itself and returns an error.
//
// It does not look at the Origin header: the caller must have authenticated the
// request by something that a browser does not send by itself. The Conn does not
// depend on r's context; its lifetime ends with Close.
func Accept(w http.ResponseWriter, r *http.Request, o AcceptOptions) (*Conn, error) {
	rc := http.NewResponseController(w)
	watch := new(flood)
	h := &combiningHijacker{ResponseWriter: w, rc: rc, writeTimeout: defaultDuration(o.WriteTimeout, defaultWriteTimeout), flood: watch}
	maps.Copy(w.Header(), o.Header)
	opts := &websocket.AcceptOptions{
		InsecureSkipVerify: true, // the Origin check; see above
		CompressionMode:    websocket.CompressionDisabled,
		// It lives as long as the connection, and must not keep w, which net/http's
		// buffers and the request are behind.
		OnPingReceived: func(context.Context, []byte) bool { return watch.ping(time.Now()) },
	}
	if o.Subprotocol != "" {
		opts.Subprotocols = []string{o.Subprotocol}
		if !offersSubprotocol(r.Header, o.Subprotocol) {
			err := fmt.Errorf("h2conn: the client does not offer the websocket subprotocol %q", o.Subprotocol)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return nil, err
		}
	}
	ws, err := websocket.Accept(h, r, opts)
	if err != nil {
		return nil, fmt.Errorf("h2conn: %w", err)
	}
	c := newConn(ws, h.carrier, h.conn.LocalAddr(), h.conn.RemoteAddr())
	c.socket = h.conn
	return c, nil
}

// combiningHijacker is a ResponseWriter whose hijacked connection is a carrier
// with small buffers. That is the only way to get below websocket.Accept.
type combiningHijacker struct {
	http.ResponseWriter
	rc           *http.ResponseController
	writeTimeout time.Duration
	flood        *flood

	conn    net.Conn
	carrier *carrier
}

func (h *combiningHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, brw, err := h.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	if err := brw.Flush(); err != nil { // the 101, if net/http left it there
		return nil, nil, errors.Join(err, conn.Close())
	}
	// What the server has read ahead belongs to the websocket.
	ahead, err := brw.Peek(brw.Reader.Buffered())
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	h.conn = conn
	h.carrier = newCarrier(conn, conn, h.flood, h.writeTimeout, false)
	h.carrier.unsent = limitUnsent(conn)
	h.carrier.ahead = slices.Clone(ahead)
	cc := carrierConn{conn, h.carrier}
	h.carrier.above = bufio.NewReaderSize(cc, acceptReadBuffer)
	return cc, bufio.NewReadWriter(h.carrier.above, bufio.NewWriterSize(cc, acceptWriteBuffer)), nil
}
