package tunnelclient

import (
	"cmp"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/errorlog"
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

	// PassBarePath is for a handler that decides itself about the tunnel's bare
	// path, "/<id>" without a slash behind it, such as that of [ProxyTo] with
	// KeepPrefix: it gets a browser's navigation there too, like all other
	// requests for it. By default the service redirects that to "/<id>/".
	PassBarePath bool

	// HTTPClient makes the handshake request: its Transport decides about
	// TLS, proxies and addresses. Where that is an *http.Transport, its HTTP
	// proxies are asked for a connection with CONNECT, for http URLs too; a
	// proxy that refuses is retried like one that cannot be reached. Nil means
	// one that honours HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	//
	// A handshake is redirected only within its host and never from https to
	// http, so that no other host gets the token; the HTTPClient's own
	// CheckRedirect can restrict that further.
	HTTPClient *http.Client

	// Connections is how many websockets the tunnel has, if the service admits as many:
	// on a network that loses packets, requests that run side by side are faster over
	// several. Each may hold ConnWindow bytes. Zero means one, which is right for most;
	// the most is 8. All have to reach the same node of the service.
	Connections int

	// Header is added to the handshake request, for what a front of the service
	// wants to see, such as CF-Access-Client-Id. Authorization, which carries the
	// token, Host, and the headers of the handshake itself are errors.
	Header http.Header

	// Logger receives what happens to the tunnel. The zero value is silent.
	// Its writer must not block: lines are written on the way of requests.
	Logger zerolog.Logger

	// PingInterval is how long the service may be silent before the client pings
	// it, and PingTimeout how long the answer may take before the client opens a
	// new session. Zero means 15 s and 10 s, or what the service asks for; negative
	// never.
	PingInterval, PingTimeout time.Duration

	// WriteTimeout is how long a write to the service may make no progress at all
	// before the session is given up. Zero means 10 s, negative never.
	WriteTimeout time.Duration

	// MaxStreams is how many requests the client admits at a time. Zero means
	// 250; negative values count as zero.
	MaxStreams int

	// StreamWindow and ConnWindow are how many bytes of one request, and of all
	// requests together, may wait for the handler, at most: see
	// [h2conn.Config]. Zero means 8 MiB and 32 MiB; negative values count as zero.
	StreamWindow, ConnWindow int32

	// DrainTimeout is how long requests in flight may go on after Serve's
	// context has ended. Zero means 10 s, negative not at all.
	DrainTimeout time.Duration

	// OnStateChange, if not nil, is called on every change of the tunnel's
	// state. Calls come from one goroutine at a time, in order; the Client
	// waits for them, so they must not block.
	OnStateChange func(State)

	// jitter returns a random duration in [0, bound]. Nil means math/rand.
	jitter func(bound time.Duration) time.Duration

	// errorLog is where x/net/http2 writes. New sets it, so that all sessions
	// share its limit.
	errorLog *log.Logger

	// budget is what the requests of all sessions may hold. New sets it.
	budget *h2conn.Budget

	// network is what tells of changes. Nil means the operating system's.
	network network
}

// A ConfigError says which field of a [Config] breaks a rule. [New] and
// [Config.Validate] return one for each fault, joined ([errors.Join]). It has
// the fields
//
//	Field string // Go name of the field, such as "ServerURL"
//	Value string // what it is set to; empty if not set, or if it may be a secret
//	Rule  string // the rule and what to do: "it names no host"
//
// It is the same type as in the packages server and target.
type ConfigError = configerror.ConfigError

// Validate returns the error that [New] would return for cfg: nil, or a
// [*ConfigError] for each fault, joined.
func (cfg Config) Validate() error {
	_, err := cfg.check()
	return err
}

// check returns the URL of the handshake, or the faults of cfg.
func (cfg *Config) check() (endpoint string, err error) {
	faults := configerror.New("tunnelclient")
	endpoint = handshakeURL(cfg.ServerURL, faults)
	faults.AddID("ID", cfg.ID)
	faults.AddHeader("Header", cfg.Header, ownHeaders)
	if cfg.Connections < 0 || cfg.Connections > maxConnections {
		faults.Add("Connections", strconv.Itoa(cfg.Connections), fmt.Sprintf("must be from 1 to %d, or 0 for one websocket", maxConnections))
	}
	if cfg.Tokens == nil {
		faults.Add("Tokens", "", "is nil: a token source is required")
	}
	return endpoint, faults.Err()
}

// ownHeaders are further headers of the handshake that Header may not hold.
var ownHeaders = map[string]string{
	"Authorization":            "the token goes there, as Bearer: a front must take its credentials from another header, or a client certificate",
	"Host":                     "ServerURL (SERVER-URL) names the host: put it there",
	"Proxy-Authorization":      "it is for a proxy on the way: put user and password into that proxy's URL (--proxy)",
	"Sec-Websocket-Extensions": "it belongs to the handshake of the tunnel: leave it out",
	"Sec-Websocket-Protocol":   "it belongs to the handshake of the tunnel: leave it out",
}

// prepare checks cfg, a copy of the caller's, fills in the defaults and
// returns the URL of the handshake.
func (cfg *Config) prepare() (endpoint string, err error) {
	endpoint, err = cfg.check()
	if err != nil {
		return "", err
	}
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = defaultDrainTimeout
	}
	cfg.Header = cfg.Header.Clone()
	cfg.Logger = cfg.Logger.With().Str("id", cfg.ID).Logger()
	cfg.errorLog = errorlog.New(cfg.Logger)
	cfg.budget = new(h2conn.Budget)
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

// sessionConfig returns how HTTP/2 inside s is tuned.
func (cfg *Config) sessionConfig(s *session) h2conn.ServeConfig {
	return h2conn.ServeConfig{
		Config: h2conn.Config{
			StreamWindow: cfg.StreamWindow,
			ConnWindow:   cfg.ConnWindow,
			PingInterval: cmp.Or(cfg.PingInterval, s.pingInterval),
			PingTimeout:  cmp.Or(cfg.PingTimeout, s.pingTimeout),
		},
		MaxConcurrentStreams: uint32(min(max(cfg.MaxStreams, 0), math.MaxInt32)),
		DrainTimeout:         max(cfg.DrainTimeout, 0),
		Budget:               cfg.budget,
		ErrorLog:             cfg.errorLog,
	}
}

// handshakeURL returns the URL to request for a service's URL, after it has noted
// its faults. A path is made to end in a slash: the proxy that strips it leaves "/".
func handshakeURL(s string, faults *configerror.Faults) string {
	u := faults.URL("ServerURL", s, "https://tunnel.example.com", serverURLRule)
	if u == nil {
		return ""
	}
	if !strings.HasSuffix(u.Path, "/") {
		u = u.JoinPath("/")
	}
	return u.String()
}

// serverURLRule returns the rule that u breaks as a service's URL, or "".
func serverURLRule(u *url.URL) string {
	switch {
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "ws" && u.Scheme != "wss":
		return "it must begin with https://, http://, wss:// or ws://"
	case u.Hostname() == "":
		return "it names no host"
	case u.User != nil:
		return "it must not hold a user or password, for they would be Basic in the Authorization header, where the token is, as Bearer: a front must take what it wants to see from another header, set with Header (--header)"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "it must not have a query or fragment"
	}
	return ""
}
