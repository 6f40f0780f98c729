package tunnelclient

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
)

// Client keeps one tunnel open. Make one with [New]. Its methods may be called
// from any goroutine.
type Client struct {
	// Static after New.
	cfg      Config
	endpoint string // URL of the handshake
	instance string // random: tells this Client apart from all others

	attempts atomic.Uint64 // registrations so far

	mu      sync.Mutex
	serving bool
	url     string        // of the newest session; "" before the first
	ended   error         // why Serve returned; nil while it runs or has not begun
	changed chan struct{} // closed and replaced when url or ended change
}

// instanceLength makes 110 random bits, of which no two Clients have the same.
const instanceLength = 22

var errStopped = errors.New("tunnelclient: Serve has returned")

// New returns a Client for cfg, or a [*ConfigError] for each fault in it, joined
// ([errors.Join]). It starts nothing and connects to nothing; that is what
// [Client.Serve] is for.
func New(cfg Config) (*Client, error) {
	endpoint, err := cfg.prepare()
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, endpoint: endpoint, instance: rand.Text()[:instanceLength], changed: make(chan struct{})}, nil
}

// Serve opens the tunnel and answers viewers' requests with h until ctx ends
// or the service refuses the tunnel in a way that a retry cannot fix.
//
// ctx is the lifetime. When it ends, the service is told to send no more
// requests, those in flight may go on for Config.DrainTimeout, the connection
// is closed, and Serve returns nil. The contexts of requests hold ctx's values
// but end with their connection.
//
// Otherwise Serve returns a *[RefusedError], or an error wrapping [ErrNoToken];
// requests in flight on sessions that still live are finished before, as
// above. Like net/http, Serve does not wait for handlers that go on after
// their connection is closed.
//
// Only one Serve can run at a time: a second call returns an error at once.
// One that comes after the first has returned opens the tunnel again.
func (c *Client) Serve(ctx context.Context, h http.Handler) error {
	if h == nil {
		return errors.New("tunnelclient: Serve: the handler is nil")
	}
	if !c.begin() {
		return errors.New("tunnelclient: Serve is already running on this Client")
	}
	r := newRun(c, h)
	err := r.serve(ctx)
	c.end(err)
	return err
}

// URL waits until the tunnel is open and returns the URL that viewers use. It
// has no trailing slash; a path may be appended. It stays the same across
// reconnects, and URL goes on returning it while there is no session.
//
// URL returns an error when ctx ends, or when Serve has returned before it
// ever opened the tunnel. It does not itself open anything: without a call of
// Serve it waits.
func (c *Client) URL(ctx context.Context) (string, error) {
	for {
		c.mu.Lock()
		u, ended, changed := c.url, c.ended, c.changed
		c.mu.Unlock()
		switch {
		case u != "":
			return u, nil
		case ended != nil:
			return "", ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// encrypted reports whether the way to the service is encrypted or does not
// leave this machine.
func (c *Client) encrypted() bool {
	u, err := url.Parse(c.endpoint)
	if err != nil || u.Scheme == "https" || u.Scheme == "wss" || u.Hostname() == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.IsLoopback()
}

// begin marks c as serving, and reports whether it was not.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.serving {
		return false
	}
	c.serving, c.ended = true, nil
	return true
}

func (c *Client) end(err error) {
	if err == nil {
		err = errStopped
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.serving, c.ended = false, err
	c.announceLocked()
}

func (c *Client) setURL(u string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.url = u
	c.announceLocked()
}

func (c *Client) announceLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}
