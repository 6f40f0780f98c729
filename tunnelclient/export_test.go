package tunnelclient

import (
	"net/http"
	"net/netip"
	"time"
)

// SetJitter replaces the randomness of waits by f.
func (cfg *Config) SetJitter(f func(bound time.Duration) time.Duration) { cfg.jitter = f }

// SetNetwork replaces what the operating system says of the network.
func (cfg *Config) SetNetwork(n Network) { cfg.network = testNetwork{n} }

// Network is a network for tests.
type Network interface {
	Source(remote netip.AddrPort) (netip.Addr, bool)
	Addresses() []netip.Addr
}

type testNetwork struct{ n Network }

func (t testNetwork) source(remote netip.AddrPort) (netip.Addr, bool) { return t.n.Source(remote) }
func (t testNetwork) addresses() []netip.Addr                         { return t.n.Addresses() }

// Kernel returns what the operating system says.
func Kernel() (source func(netip.AddrPort) (netip.Addr, bool), addresses func() []netip.Addr) {
	return kernel{}.source, kernel{}.addresses
}

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
func OneLine(s string) string                                    { return oneLine(s) }
func QuotesToken(text, token string) bool                        { return quotesToken(text, token) }
