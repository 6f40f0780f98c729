package h2conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/idna"
)

const (
	// connectTimeout bounds how long a proxy may take to answer CONNECT. It is
	// a little less than callers usually give the whole handshake, so that
	// the error can name the proxy.
	connectTimeout = 25 * time.Second

	// maxConnectAnswer bounds the header of that answer.
	maxConnectAnswer = 64 << 10
)

// throughProxy returns the RoundTripper for a websocket handshake: rt, unless
// that is an [http.Transport] which would send req through an HTTP proxy. For
// http URLs it would make an ordinary request of the proxy, and few proxies
// pass upgrades on. Websockets take CONNECT for http URLs as well (RFC 6455,
// section 4.1), so what comes back connects in this way in either case.
func throughProxy(rt http.RoundTripper, req *http.Request) http.RoundTripper {
	base, ok := rt.(*http.Transport)
	if !ok || base.Proxy == nil {
		return rt
	}
	u, err := base.Proxy(req)
	if err != nil || u == nil || u.Scheme != "http" && u.Scheme != "https" {
		return rt // no proxy, a SOCKS proxy, or an error that rt reports
	}
	tr := base.Clone()
	tr.Proxy = nil
	tr.DialContext = (&proxyDialer{req.Context(), base, u}).dial
	tr.DialTLSContext = nil // meant for connections without a proxy, or for the proxy's own
	tr.DialTLS = nil        //nolint:staticcheck // deprecated, but it would still be called
	tr.DisableKeepAlives = true
	return tr
}

// proxyDialer connects through an HTTP proxy.
type proxyDialer struct {
	handshake context.Context // of the one request that wants a connection

	tr  *http.Transport // whose dialling, TLS and headers it uses
	url *url.URL        // of the proxy
}

// name is what errors call the proxy: without user and password.
func (d *proxyDialer) name() string {
	return (&url.URL{Scheme: d.url.Scheme, Host: d.url.Host}).String()
}

// dial has the proxy connect to addr. It is an [http.Transport.DialContext].
func (d *proxyDialer) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	// net/http would go on when the request has ended, for later ones.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(d.handshake, cancel)
	defer stop()

	conn, err := d.dialProxy(ctx)
	if err != nil {
		return nil, fmt.Errorf("the proxy %s cannot be reached: %w", d.name(), err)
	}
	if err := d.connect(ctx, conn, addr); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialProxy connects to the proxy itself, as d.tr would.
func (d *proxyDialer) dialProxy(ctx context.Context) (net.Conn, error) {
	host, port := d.url.Hostname(), d.url.Port()
	overTLS := d.url.Scheme == "https"
	if ascii, err := idna.Lookup.ToASCII(host); err == nil {
		host = ascii
	}
	if port == "" {
		port = "80"
		if overTLS {
			port = "443"
		}
	}
	addr := net.JoinHostPort(host, port)
	switch {
	case overTLS && d.tr.DialTLSContext != nil:
		return d.tr.DialTLSContext(ctx, "tcp", addr)
	case overTLS && d.tr.DialTLS != nil: //nolint:staticcheck // deprecated, but net/http calls it
		return d.tr.DialTLS("tcp", addr) //nolint:staticcheck // as above
	}
	dial := (&net.Dialer{}).DialContext
	switch {
	case d.tr.DialContext != nil:
		dial = d.tr.DialContext
	case d.tr.Dial != nil: //nolint:staticcheck // as above
		dial = func(_ context.Context, network, addr string) (net.Conn, error) {
			return d.tr.Dial(network, addr) //nolint:staticcheck // as above
		}
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil || !overTLS {
		return conn, err
	}
	cfg := &tls.Config{}
	if d.tr.TLSClientConfig != nil {
		cfg = d.tr.TLSClientConfig.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	cfg.NextProtos = nil // CONNECT over HTTP/1.1
	if d.tr.TLSHandshakeTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.tr.TLSHandshakeTimeout)
		defer cancel()
	}
	tc := tls.Client(conn, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return tc, nil
}

// connect makes conn, which leads to the proxy, one that leads to addr.
func (d *proxyDialer) connect(ctx context.Context, conn net.Conn, addr string) error {
	req := &http.Request{
		Method: http.MethodConnect,
		URL:    &url.URL{Opaque: addr},
		Host:   addr,
		Header: d.tr.ProxyConnectHeader.Clone(),
	}
	if d.tr.GetProxyConnectHeader != nil {
		h, err := d.tr.GetProxyConnectHeader(ctx, d.url, addr)
		if err != nil {
			return err
		}
		req.Header = h.Clone()
	}
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if u := d.url.User; u != nil {
		password, _ := u.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}

	answering, cancel := context.WithTimeoutCause(ctx, connectTimeout, fmt.Errorf("it takes longer than %v", connectTimeout))
	defer cancel()
	stop := context.AfterFunc(answering, func() { conn.Close() })
	resp, err := exchangeConnect(conn, req)
	if !stop() {
		err = context.Cause(answering)
	}
	if err != nil {
		return fmt.Errorf("the proxy %s does not answer CONNECT %s: %w", d.name(), addr, err)
	}
	if d.tr.OnProxyConnectResponse != nil {
		if err := d.tr.OnProxyConnectResponse(ctx, d.url, req, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode/100 == 2 {
		return nil
	}
	hint := ""
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired && d.url.User == nil:
		hint = "; it wants a user and password"
	case resp.StatusCode == http.StatusProxyAuthRequired:
		hint = "; it does not take this user and password"
	case resp.StatusCode == http.StatusForbidden:
		hint = "; its rules may not allow this host or port"
	}
	return fmt.Errorf("the proxy %s answers CONNECT %s with %d %s%s",
		d.name(), addr, resp.StatusCode, http.StatusText(resp.StatusCode), hint)
}

// exchangeConnect drops what comes with the answer's header: after a CONNECT
// that went well, the other end does not speak first.
func exchangeConnect(conn net.Conn, req *http.Request) (*http.Response, error) {
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxConnectAnswer)), req)
}
