package tunnelclient

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	defaultDrainTimeout = 10 * time.Second

	// handshakeTimeout bounds one attempt to connect, from the name lookup to
	// the answer of the service.
	handshakeTimeout = 30 * time.Second
)

// Config says what a [Client] connects to and as whom.
type Config struct {
	// ServerURL is the service's URL. Required. Its scheme is http, https, ws
	// or wss; it may have a path, but no user, query or fragment.
	ServerURL string

	// ID is the client id. Required: 1 to 256 characters of
	// A-Z a-z 0-9 _ ~ . % -; url.PathEscape makes one of any string.
	ID string

	// Tokens is asked for a token before every attempt. Required.
	Tokens TokenSource

	// HTTPClient makes the handshake request: its Transport decides about
	// TLS, proxies and addresses. Where that is an *http.Transport, its HTTP
	// proxies are asked for a connection with CONNECT, for http URLs too; a
	// proxy that refuses is retried like one that cannot be reached. Nil means
	// one that honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	//
	// A handshake is redirected only within its host and never from https to
	// http, so that the token goes nowhere else; the HTTPClient's own
	// CheckRedirect can restrict that further.
	HTTPClient *http.Client

	// Logger receives what happens to the tunnel. The zero value is silent.
	Logger zerolog.Logger

	// Conn tunes HTTP/2 inside the websocket, and how soon a service that has
	// vanished is noticed. The zero value is good. Its DrainTimeout is ignored
	// in favour of the one below, and a nil ErrorLog means Logger.
	Conn h2conn.Config

	// DrainTimeout is how long requests in flight may go on after Serve's
	// context has ended. Zero means 10 s, negative not at all.
	DrainTimeout time.Duration

	// OnStateChange, if not nil, is called on every change of the tunnel's
	// state. Calls come from one goroutine at a time, in order; the Client
	// waits for them, so they must not block.
	OnStateChange func(State)

	// jitter returns a random duration in [0, bound]. Nil means math/rand.
	jitter func(bound time.Duration) time.Duration

	// network is what tells of changes. Nil means the operating system's.
	network network
}

// prepare checks cfg, a copy of the caller's, fills in the defaults and
// returns the URL of the handshake.
func (cfg *Config) prepare() (endpoint string, err error) {
	endpoint, err = handshakeURL(cfg.ServerURL)
	if err != nil {
		return "", fmt.Errorf("tunnelclient: ServerURL: %w", err)
	}
	if err := wire.CheckID(cfg.ID); err != nil {
		return "", fmt.Errorf("tunnelclient: ID: %w", err)
	}
	if cfg.Tokens == nil {
		return "", errors.New("tunnelclient: Tokens is nil: a token source is required")
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = defaultDrainTimeout
	}
	cfg.Logger = cfg.Logger.With().Str("id", cfg.ID).Logger()
	cfg.Conn.DrainTimeout = max(cfg.DrainTimeout, 0)
	if cfg.Conn.ErrorLog == nil {
		cfg.Conn.ErrorLog = errorLog(cfg.Logger)
	}
	hc := http.Client{}
	if cfg.HTTPClient != nil {
		hc = *cfg.HTTPClient
	}
	hc.CheckRedirect = sameHost(hc.CheckRedirect)
	cfg.HTTPClient = &hc
	if cfg.jitter == nil {
		cfg.jitter = func(bound time.Duration) time.Duration { return rand.N(bound + 1) }
	}
	if cfg.network == nil {
		cfg.network = kernel{}
	}
	return endpoint, nil
}

// handshakeURL checks a service's URL and returns the one to request. A path
// is made to end in a slash: the proxy that strips it leaves "/".
func handshakeURL(s string) (string, error) {
	if s == "" {
		return "", errors.New("it is empty: a URL such as https://tunnel.example.com is required")
	}
	u, err := url.Parse(s)
	if err != nil {
		// The error of url.Parse quotes its input, which may hold a password.
		return "", errors.New("it cannot be parsed as a URL")
	}
	shown := redact.URL(s)
	switch u.Scheme {
	case "http", "https", "ws", "wss":
	default:
		return "", fmt.Errorf("%q must begin with https://, http://, wss:// or ws://", shown)
	}
	switch {
	case u.Hostname() == "":
		return "", fmt.Errorf("%q names no host", shown)
	case u.User != nil:
		return "", fmt.Errorf("%q must not hold a user or password", shown)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "", fmt.Errorf("%q must not have a query or fragment", shown)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u.String(), nil
}
