package tunnelclient

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	maxRedirects = 3

	// maxClientURL is how long a client URL may be: an id has 256 bytes.
	maxClientURL = 4 << 10
)

// dial registers with the service and returns the new session, which nobody
// serves yet. It joins that of the registration joins, unless this is zero. ctx bounds
// the attempt. The error is a *RefusedError if the service answered anything but 101.
func (c *Client) dial(ctx context.Context, token string, joins uint64) (*session, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout,
		fmt.Errorf("the service did not answer the handshake within %v", handshakeTimeout))
	defer cancel()

	begun, attempt := time.Now(), c.attempts.Add(1)
	conn, resp, err := h2conn.Dial(ctx, c.endpoint, h2conn.DialOptions{
		HTTPClient:   c.cfg.HTTPClient,
		Header:       c.handshakeHeader(token, attempt, joins),
		Subprotocol:  wire.Subprotocol,
		WriteTimeout: c.cfg.WriteTimeout,
	})
	switch {
	case err == nil:
	case resp != nil && resp.StatusCode == http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("the server switched protocols but does not speak %s; the server URL may be wrong: %w", wire.Subprotocol, err)
	case resp != nil:
		return nil, refused(resp, token)
	case context.Cause(ctx) != nil:
		return nil, context.Cause(ctx)
	default:
		return nil, connectError(err)
	}

	u, err := clientURL(resp.Header)
	if err != nil {
		conn.CloseWith(int(wire.CloseProtocol), "no client URL")
		return nil, err
	}
	s := newSession(conn, u, token, c.cfg.Logger)
	s.dialled, s.attempt = time.Since(begun), attempt
	if told := resp.Header[wire.HeaderConnections]; len(told) == 1 {
		n, _ := strconv.ParseUint(told[0], 10, 16)
		s.connections = int(n)
	}
	if told := resp.Header[wire.HeaderPing]; len(told) == 1 {
		s.pingInterval, s.pingTimeout, _ = wire.ParsePing(told[0])
	}
	return s, nil
}

// handshakeHeader returns the headers of the handshake request of an attempt, to join
// the session of another unless joins is zero.
func (c *Client) handshakeHeader(token string, attempt, joins uint64) http.Header {
	cfg := &c.cfg
	h := http.Header{
		"Authorization":     {"Bearer " + token},
		wire.HeaderID:       {cfg.ID},
		wire.HeaderInstance: {c.instance},
		wire.HeaderAttempt:  {strconv.FormatUint(attempt, 10)},
	}
	if joins != 0 {
		h.Set(wire.HeaderJoins, strconv.FormatUint(joins, 10))
	}
	if cfg.PassBarePath {
		h.Set(wire.HeaderBarePath, wire.BarePathPass)
	}
	for name, values := range cfg.Header {
		for _, v := range values {
			h.Add(name, textproto.TrimString(v))
		}
	}
	return h
}

// clientURL returns the client URL of a 101. It goes to terminals and files as
// it is, so that nothing passes that means something there.
func clientURL(h http.Header) (string, error) {
	s := h.Get(wire.HeaderClientURL)
	if s == "" {
		return "", fmt.Errorf("the service's answer has no %s header; the server URL may be wrong", wire.HeaderClientURL)
	}
	if len(s) > maxClientURL || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("the %s header of the service's answer is not a URL of at most %d printable characters", wire.HeaderClientURL, maxClientURL)
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("the %s header of the service's answer is not an http or https URL", wire.HeaderClientURL)
	}
	return s, nil
}

// connectError strips what the layers above the network have wrapped around
// the cause of a failed attempt, and adds what to do about it where that is
// known.
func connectError(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	hint := ""
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		hint = "; see --ca-file for an authority of your own"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		hint = "; the port does not speak TLS: use http://"
	}
	return fmt.Errorf("connecting to the service: %w%s", err, hint)
}

// sameHost returns a CheckRedirect policy that follows a redirect only to the
// same scheme and authority, or from http to https on the same host name, and
// only if next, which may be nil, agrees. A redirect that is not followed becomes
// the answer to the handshake.
func sameHost(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		from, to := via[len(via)-1].URL, req.URL
		same := from.Scheme == to.Scheme && strings.EqualFold(from.Host, to.Host)
		safer := from.Scheme == "http" && to.Scheme == "https" && strings.EqualFold(from.Hostname(), to.Hostname())
		if len(via) > maxRedirects || !same && !safer {
			return http.ErrUseLastResponse
		}
		if next != nil {
			return next(req, via)
		}
		return nil
	}
}
