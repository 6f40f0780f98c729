package target

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
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
// addresses is tried at each of them.
func newDialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
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

// newTransport returns what sends requests to t over these protocols.
func newTransport(t endpoint, o Options, protocols http.Protocols) *http.Transport {
	tr := &http.Transport{
		Protocols: &protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := t.dial(ctx)
			if err != nil {
				return nil, dialError{err}
			}
			if protocols.HTTP1() {
				conn = newConn(conn)
			}
			return conn, nil
		},
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  expectTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         16 << 10, // chunked answers pass through it
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 10 * time.Second},
	}
	if t.scheme == "https" {
		tr.TLSClientConfig = &tls.Config{}
		if o.TLSConfig != nil {
			tr.TLSClientConfig = o.TLSConfig.Clone()
		}
		if o.InsecureSkipVerify {
			tr.TLSClientConfig.InsecureSkipVerify = true
		}
		// If that is empty, net/http takes the host of the URL.
		tr.TLSClientConfig.ServerName = cmp.Or(o.ServerName, tr.TLSClientConfig.ServerName, hostname(o.HostHeader))
	}
	return tr
}

// hostname returns the host of a Host header without port and brackets.
func hostname(host string) string { return (&url.URL{Host: host}).Hostname() }

// serverNameRule returns the rule that s breaks as [Options].ServerName, or "".
func serverNameRule(s string) string {
	if net.ParseIP(s) != nil {
		return ""
	}
	labels := strings.Split(strings.TrimSuffix(s, "."), ".")
	if slices.Contains(labels, "") || strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return "it must be a host name or an IP address, without a port, such as app.example.com (xn--… for names that are not ASCII)"
	}
	return ""
}
