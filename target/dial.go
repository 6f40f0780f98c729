package target

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// dialTimeout bounds connecting to a target.
	dialTimeout = 10 * time.Second

	// idleTimeout is how long an idle connection to the target is kept: less
	// than the 2 s (gunicorn) and 5 s (Node.js) after which servers that are
	// often targets close it, so that no request meets a dying connection.
	idleTimeout = 1500 * time.Millisecond

	// maxHeader bounds the header of the target's answer. It has to fit into
	// the tunnel, where the service admits 256 KiB.
	maxHeader = 200 << 10
)

// endpoint is where a [Proxy] sends requests: nothing in a request
// can change it.
type endpoint struct {
	scheme string // http, https or h2c
	host   string // of request URLs; the TLS server name, unless Options name one

	// dial connects to the target.
	dial func(context.Context) (net.Conn, error)
}

// newDialer returns what connects to targets. A name with several
// addresses is tried at each of them. A connection whose other end is gone without
// a word is found after a minute.
func newDialer() *net.Dialer {
	return &net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3},
	}
}

// parseTarget understands what New documents, or returns the rule that s breaks.
// The target is dialled with d.
func parseTarget(s string, d *net.Dialer) (e endpoint, rule string) {
	if path, ok := strings.CutPrefix(s, "unix://"); ok {
		if !filepath.IsAbs(path) {
			return endpoint{}, "the path of the socket must be absolute, as in unix:///run/app.sock"
		}
		return endpoint{"http", "localhost", func(ctx context.Context) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}}, ""
	}
	if allDigits(s) {
		if !isPort(s) {
			return endpoint{}, portRule
		}
		return endpoint{"http", net.JoinHostPort("localhost", s), dialLocalhost(d, s)}, ""
	}

	scheme, addr := "http", s
	if strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil {
			return endpoint{}, "it cannot be parsed as a URL"
		}
		switch {
		case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c":
			return endpoint{}, "the scheme must be http, https, h2c or unix (websockets work with all of them)"
		case u.User != nil:
			return endpoint{}, "a user or password is not supported"
		case u.Path != "" && u.Path != "/", u.RawQuery != "", u.ForceQuery, u.Fragment != "":
			return endpoint{}, "a path or query is not supported, since viewers' paths arrive unchanged"
		case u.Hostname() == "":
			return endpoint{}, "it names no host"
		}
		scheme, addr = u.Scheme, u.Host
		if u.Port() == "" {
			port := "80"
			if scheme == "https" {
				port = "443"
			}
			addr = net.JoinHostPort(u.Hostname(), port)
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || strings.ContainsAny(host, "/?#@ ") {
		return endpoint{}, "it must be one of: a port, host:port, http://host, https://host, h2c://host, unix:///path"
	}
	if !isPort(port) {
		return endpoint{}, portRule
	}
	return endpoint{scheme, addr, func(ctx context.Context) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", addr)
	}}, ""
}

// dialLocalhost connects to a port of this machine without asking a resolver:
// some servers listen on 127.0.0.1 only, some on ::1 only.
func dialLocalhost(d *net.Dialer, port string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			return conn, nil
		}
		conn, err6 := d.DialContext(ctx, "tcp", net.JoinHostPort("::1", port))
		if err6 == nil {
			return conn, nil
		}
		return nil, err // a machine without IPv6 would only blur the picture
	}
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

const portRule = "the port must be a number from 1 to 65535"

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && allDigits(s)
}

// HTTP versions of a transport of net/http.
var http1Only, http2Only = func() (one, two http.Protocols) {
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	return one, two
}()

// newTransport returns what speaks one version of HTTP over the connections that
// dial makes. For net/http these are in cleartext: TLS is beneath.
func newTransport(version http.Protocols, dial func(context.Context) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		Protocols:              &version,
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression:     true,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  expectTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         16 << 10, // chunked answers pass through it
		// No pings: a gRPC server ends the connection of a client that pings often.
		HTTP2: &http.HTTP2Config{WriteByteTimeout: deadTimeout},
	}
}
