package tunnelclient

import (
	"net"
	"net/http"
	"net/url"
	"time"
)

// SetJitter replaces the randomness of waits by f.
func (cfg *Config) SetJitter(f func(bound time.Duration) time.Duration) { cfg.jitter = f }

// SetTokenFilePoll sets how often src, made by TokenFile, looks at its file.
func SetTokenFilePoll(src TokenUpdater, d time.Duration) { src.(*fileSource).poll = d }

// Endpoint returns the URL that the handshake requests.
func (c *Client) Endpoint() string { return c.endpoint }

// Backoff is a backoff for tests.
type Backoff = backoff

// RetryBackoff and ReplacedBackoff return the two curves of waits.
func RetryBackoff(jitter func(time.Duration) time.Duration) *Backoff {
	return &newRun(&Client{cfg: Config{jitter: jitter}}, nil).retry
}

func ReplacedBackoff(jitter func(time.Duration) time.Duration) *Backoff {
	return &newRun(&Client{cfg: Config{jitter: jitter}}, nil).replaced
}

func (b *backoff) Next() time.Duration { return b.next() }
func (b *backoff) Reset()              { b.reset() }

func (b *backoff) NextWithin(limit time.Duration) time.Duration { return b.nextWithin(limit) }

func ParseRetryAfter(h http.Header, now time.Time) time.Duration { return parseRetryAfter(h, now) }
func RequestTarget(r *http.Request) url.URL                      { return requestTarget(r, "") }
func OneLine(s string) string                                    { return oneLine(s) }
func QuotesToken(text, token string) bool                        { return quotesToken(text, token) }

// NewTargetDialer returns what targets are dialled with.
func NewTargetDialer() *net.Dialer { return newTargetDialer() }

// SetDialer replaces it.
func (o *ProxyOptions) SetDialer(d *net.Dialer) { o.dialer = d }

// ParseTarget returns the scheme and host of a target.
func ParseTarget(s string) (scheme, host string, err error) {
	t, err := parseTarget(s, newTargetDialer())
	return t.scheme, t.host, err
}

// Classify returns the RFC 9209 error type and status for err.
func Classify(err error) (kind string, status int) {
	f := classify(err)
	return f.kind, f.status
}

// RewriteRedirects changes h, the header of the answer to r, as ProxyTo does
// with that option. r is the request to the target.
func RewriteRedirects(r *http.Request, h http.Header) { newRedirectRewriter(r).apply(h) }
