package h2conn

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/coder/websocket"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

const defaultWriteTimeout = 10 * time.Second

// DialOptions tunes [Dial].
type DialOptions struct {
	// HTTPClient makes the handshake request. Its Transport decides about
	// TLS, proxies and addresses; its Timeout does not apply. Where the
	// Transport is an *http.Transport, its HTTP proxies are asked for a
	// connection with CONNECT, for http URLs too. Nil means a client that
	// honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	HTTPClient *http.Client

	// Header is added to the handshake request.
	Header http.Header

	// Subprotocol is the websocket subprotocol to offer. Empty: none. Dial
	// fails if the service does not select it.
	Subprotocol string

	// WriteTimeout is how long the peer may take no bytes at all before this
	// end gives up the connection; HTTP/2 sets no other limit for a stuck write.
	// Zero means 10 s, negative no limit.
	WriteTimeout time.Duration
}

// Dial opens a websocket to url (http, https, ws or wss) and returns a [Conn]
// over it. ctx bounds the handshake only. When the service refuses, the
// response is returned beside the error, with at most the first 1024 bytes of
// its body.
func Dial(ctx context.Context, url string, o DialOptions) (*Conn, *http.Response, error) {
	client := http.Client{Transport: dialTransport}
	if o.HTTPClient != nil {
		client = *o.HTTPClient
		client.Timeout = 0 // it would end the websocket, not the handshake
		if client.Transport == nil {
			client.Transport = dialTransport
		}
	}
	watch := new(flood)
	tr := &combiningTransport{
		flood:        watch,
		base:         client.Transport,
		writeTimeout: defaultDuration(o.WriteTimeout, defaultWriteTimeout),
	}
	client.Transport = tr
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			tr.conn = i.Conn
		},
	})
	var c *Conn // set before the first Read
	opts := &websocket.DialOptions{
		HTTPClient:      &client,
		HTTPHeader:      o.Header.Clone(),
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived:  func(context.Context, []byte) bool { return watch.ping(time.Now()) },
		OnPongReceived:  func(context.Context, []byte) { c.ponged() },
	}
	if o.Subprotocol != "" {
		opts.Subprotocols = []string{o.Subprotocol}
	}
	ws, resp, err := websocket.Dial(ctx, url, opts)
	if err != nil {
		return nil, resp, fmt.Errorf("h2conn: %w", err)
	}
	if ws.Subprotocol() != o.Subprotocol {
		err := fmt.Errorf("h2conn: the service selected the websocket subprotocol %q, not %q", ws.Subprotocol(), o.Subprotocol)
		tr.carrier.kill()
		ws.CloseNow()
		return nil, resp, err
	}
	var local, remote net.Addr
	if tr.conn != nil {
		tr.carrier.setUnsent(limitUnsent(tr.conn))
		local, remote = tr.conn.LocalAddr(), tr.conn.RemoteAddr()
	}
	c = newConn(ws, tr.carrier, local, remote)
	c.socket = tr.socket
	return c, resp, nil
}

// dialTransport is not a clone of http.DefaultTransport: that has HTTP/2
// switched on, over which this websocket handshake cannot go.
var dialTransport http.RoundTripper = &http.Transport{
	Proxy:               http.ProxyFromEnvironment,
	DialContext:         netconn.RawDialer(&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}),
	TLSHandshakeTimeout: 10 * time.Second,
	DisableKeepAlives:   true, // one handshake, one connection
}

// combiningTransport puts a carrier under the body of a 101 response, above
// TLS and any proxy that the base transport goes through.
type combiningTransport struct {
	base         http.RoundTripper
	writeTimeout time.Duration
	flood        *flood

	conn    net.Conn // what the base transport uses, if it tells
	socket  net.Conn // the same, if what is written to the carrier goes there as it is
	carrier *carrier
}

func (t *combiningTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	base := throughProxy(t.base, req)
	resp, err := base.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	rwc, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return resp, nil // websocket.Dial says so
	}
	t.carrier = newCarrier(rwc, rwc, t.flood, t.writeTimeout, true)
	if _, ok := base.(*http.Transport); ok { // others may do something to rwc
		t.socket = t.conn
	}
	resp.Body = t.carrier
	return resp, nil
}
