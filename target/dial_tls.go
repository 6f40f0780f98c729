package target

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// Names of the HTTP versions in ALPN (RFC 7301).
const (
	alpnHTTP1 = "http/1.1"
	alpnHTTP2 = "h2"
)

// dialTLS connects to an https target, offers it the versions of HTTP in protos,
// and returns which one it has chosen: HTTP/1.1 if it has not said so. cfg is not
// changed.
func dialTLS(ctx context.Context, t endpoint, cfg *tls.Config, protos ...string) (conn net.Conn, chosen string, err error) {
	raw, err := dialPlain(ctx, t)
	if err != nil {
		return nil, "", err
	}
	cfg = cfg.Clone()
	cfg.NextProtos = protos
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	tc := tls.Client(raw, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, "", err
	}
	if tc.ConnectionState().NegotiatedProtocol == alpnHTTP2 {
		return tc, alpnHTTP2, nil
	}
	return tc, alpnHTTP1, nil
}

// dialPlain connects to t. Its errors are dialErrors.
func dialPlain(ctx context.Context, t endpoint) (net.Conn, error) {
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, dialError{err}
	}
	return netconn.Raw(conn), nil
}

// tlsConfig returns what Options say about TLS to t.
func tlsConfig(t endpoint, o Options) *tls.Config {
	cfg := &tls.Config{}
	if o.TLSConfig != nil {
		cfg = o.TLSConfig.Clone()
	}
	if o.InsecureSkipVerify {
		cfg.InsecureSkipVerify = true
	}
	cfg.ServerName = cmp.Or(o.ServerName, cfg.ServerName, hostname(o.HostHeader), hostname(t.host))
	return cfg
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
