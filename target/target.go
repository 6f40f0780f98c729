package target

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/errorlog"
	"github.com/websocktunnel/websocktunnel/internal/redact"
)

// How much of a body is copied at a time, and of one that is known to be so long.
const (
	copyBufferSize = 64 << 10
	bulkBufferSize = 256 << 10
)

// Options tunes a [Proxy]. The zero value is ready to use.
type Options struct {
	// HostHeader is the Host that the target sees. Empty means the one that
	// the viewer sent.
	HostHeader string

	// RequestHeader has headers that every request to the target gets, in place of
	// the viewer's of the same names; RemoveRequestHeader has names of headers that
	// no request has. Both hold for trailers too, in which nothing is set. Headers of
	// one connection, of framing and of the tunnel itself are errors, and so is Host,
	// for which there is HostHeader.
	RequestHeader       http.Header
	RemoveRequestHeader []string

	// ResponseHeader and RemoveResponseHeader are the same for the target's answers.
	// Nothing is set in interim answers and in answers that the Proxy makes itself.
	ResponseHeader       http.Header
	RemoveResponseHeader []string

	// RewriteOrigin is for targets that refuse requests of pages from other hosts,
	// and are told another than the viewer's by HostHeader: an Origin that is the
	// viewer's own URL becomes the target's, with the host of HostHeader, otherwise
	// that of the target. All others stay, so that the target can refuse them.
	RewriteOrigin bool

	// TLSConfig is for https targets. Nil means the system's roots and no client
	// certificate.
	TLSConfig *tls.Config

	// ServerName, for https targets, is the name in the TLS handshake (SNI), which
	// the target's certificate must cover. Empty means the TLSConfig's, otherwise the
	// host of HostHeader, otherwise the host of the target.
	ServerName string

	// InsecureSkipVerify, for https targets, accepts any certificate.
	InsecureSkipVerify bool

	// KeepPrefix is for targets that are configured with the prefix under which
	// viewers see them, and expect it in requests: the path that the target
	// sees begins with that of the request's X-Forwarded-Prefix, and has a slash
	// behind it only if the viewer's has. The target does not get that header,
	// since nothing is stripped. A tunnel client that serves it should set
	// PassBarePath.
	KeepPrefix bool

	// RewriteRedirects is for targets that know nothing of the prefix under
	// which viewers see them: where a header of an answer holds a URL reference by its
	// definition (Location, Link, Refresh, HX-Redirect and others), or a cookie a Path,
	// that is an absolute path or a URL of the target itself, X-Forwarded-Prefix is put
	// before it, unless it is there already.
	RewriteRedirects bool

	// RedirectHeaders has names of further headers whose value is a URL reference,
	// for RewriteRedirects.
	RedirectHeaders []string

	// TraceRequest, if not nil, is called with each request before it goes to the
	// target, as the target gets it. It may set headers, which is meant for
	// traceparent, must not keep the request, and must not block. What it returns, if
	// not nil, is called once, when the exchange is over, with the status that the
	// tunnel got (0: none), and an error type of RFC 9209 if the target gave no whole
	// answer.
	TraceRequest func(out *http.Request) (over func(status int, failure string))

	// Logger receives a warning for each request that the target failed, and one if
	// the target asks for passwords that browsers would send to other tunnels too.
	// The zero value is silent. Its writer must not block: lines are written on
	// the way of requests.
	Logger zerolog.Logger

	// dialer connects to the target. Nil means newDialer's.
	dialer *net.Dialer
}

// A ConfigError says that the target or a field of [Options] breaks a rule. [New]
// returns one for each fault, joined ([errors.Join]). It has the fields
//
//	Field string // "target" or, for example, "Options.HostHeader"
//	Value string // what it is set to, without user, password and query
//	Rule  string // the rule and what to do: "it must be a host or host:port"
//
// It is the same type as in the packages server and tunnelclient.
type ConfigError = configerror.ConfigError

// New returns a Proxy that sends every request to target, which is one of
//
//	8080                   a port of this machine; 127.0.0.1, then ::1 is tried
//	app:8080               host:port, plain HTTP
//	http://app[:80]        the same as a URL
//	https://app[:443]      HTTP/1.1 or HTTP/2 over TLS
//	h2c://app[:80]         HTTP/2 in cleartext, for gRPC
//	unix:///run/app.sock   plain HTTP over a unix socket; the path is literal
//
// A path in target is an error: viewers' paths arrive unchanged. So do
// queries, the Host, headers, trailers in both directions, and everything in
// the answer: nothing is added to either. What cannot be kept is what net/http
// does not carry, and a path that begins with two slashes and holds bytes
// outside RFC 3986, which get escaped. Websockets and other upgrades work;
// towards an https or h2c target they use HTTP/1.1.
//
// Requests go to target alone: no redirect is followed and no proxy
// of the environment is used. If target gives no answer, the handler answers
// 502, or 504 after a timeout, with one line of text and an X-Websocktunnel-Error
// header that holds an RFC 9209 error type. If it breaks off an answer, the
// handler panics with [http.ErrAbortHandler], as net/http wants it.
//
// The error is a [*ConfigError] for each fault, joined ([errors.Join]).
func New(target string, o Options) (*Proxy, error) {
	if o.dialer == nil {
		o.dialer = newDialer()
	}
	var faults configerror.Faults
	t, rule := parseTarget(target, o.dialer)
	if rule != "" {
		faults.Add("target", redact.URL(target), rule)
	}
	if h := o.HostHeader; h != "" {
		if u, err := url.Parse("http://" + h); err != nil || u.Host != h {
			faults.Add("Options.HostHeader", redact.URL(h), "it must be a host or host:port")
		}
	}
	if o.ServerName != "" {
		if rule := serverNameRule(o.ServerName); rule != "" {
			faults.Add("Options.ServerName", redact.URL(o.ServerName), rule)
		}
	}
	o.checkHeaders(&faults)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	p := &Proxy{
		dial:     t.dial,
		url:      url.URL{Scheme: t.scheme, Host: t.host},
		host:     o.HostHeader,
		keeps:    o.KeepPrefix,
		rewrites: o.RewriteRedirects,
		further:  map[string]bool{},
		request:  newHeaderChanges(o.RequestHeader, o.RemoveRequestHeader),
		response: newHeaderChanges(o.ResponseHeader, o.RemoveResponseHeader),
		log:      errorlog.Bounded(o.Logger),
		errorLog: errorlog.NewWriter(o.Logger),
		trace:    o.TraceRequest,
	}
	p.connect(t, o)
	for _, name := range o.RedirectHeaders {
		p.further[http.CanonicalHeaderKey(name)] = true
	}
	if o.RewriteOrigin {
		p.origin = p.url.Scheme + "://" + withoutDefaultPort(strings.ToLower(cmp.Or(o.HostHeader, t.host)), p.url.Scheme)
	}
	return p, nil
}

// connect sets up the ways to t.
func (p *Proxy) connect(t endpoint, o Options) {
	http1 := func(ctx context.Context) (net.Conn, error) {
		conn, err := dialPlain(ctx, t)
		if err != nil {
			return nil, err
		}
		return newConn(conn), nil
	}
	switch t.scheme {
	case "http":
		p.plain = newTransport(http1Only, http1)
		p.upgrades = p.plain
	case "h2c":
		p.url.Scheme, p.h2c = "http", true
		p.http2 = &http2Conns{only: true, dial: func(ctx context.Context) (net.Conn, error) { return dialPlain(ctx, t) }}
		p.upgrades = newTransport(http1Only, http1)
		p.plain = p.upgrades
	case "https":
		cfg := tlsConfig(t, o)
		p.http2 = &http2Conns{dial: func(ctx context.Context) (net.Conn, error) {
			conn, chosen, err := dialTLS(ctx, t, cfg, alpnHTTP2, alpnHTTP1)
			if err == nil && chosen != alpnHTTP2 {
				conn.Close()
				return nil, errSpeaksHTTP1
			}
			return conn, err
		}}
		p.plain = newTransport(http1Only, func(ctx context.Context) (net.Conn, error) {
			conn, chosen, err := dialTLS(ctx, t, cfg, alpnHTTP2, alpnHTTP1)
			switch {
			case err != nil:
				return nil, err
			case chosen == alpnHTTP2:
				p.http2.add(ctx, conn)
				return nil, errSpeaksHTTP2
			}
			return newConn(conn), nil
		})
		p.upgrades = newTransport(http1Only, func(ctx context.Context) (net.Conn, error) {
			conn, _, err := dialTLS(ctx, t, cfg, alpnHTTP1)
			if err != nil {
				return nil, err
			}
			return newConn(conn), nil
		})
	}
}

// A Proxy is a handler that sends requests to a target. It keeps idle connections
// to the target for a moment. [New] makes one.
type Proxy struct {
	dial     func(context.Context) (net.Conn, error)
	url      url.URL         // scheme and host of all requests
	h2c      bool            // the target speaks HTTP/2 in cleartext
	host     string          // Host header, or "" for the viewer's
	keeps    bool            // Options.KeepPrefix
	rewrites bool            // Options.RewriteRedirects
	further  map[string]bool // Options.RedirectHeaders
	request  headerChanges
	response headerChanges
	origin   string // the target's own, or "" to leave Origin as it is
	log      zerolog.Logger
	password passwordWarning
	errorLog *errorlog.Writer // for httputil
	trace    func(*http.Request) func(int, string)

	// The ways to the target. Of an https target's plain, an attempt to connect may
	// end in http2; for upgrades it is offered HTTP/1.1 only.
	plain    *http.Transport
	upgrades *http.Transport
	http2    *http2Conns // nil if the target cannot speak it
}

var _ http.Handler = (*Proxy)(nil)

// ServeHTTP sends r to the target and its answer to w: see [New].
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) { newExchange(p, w, r).serve() }

// Probe connects to the target and hangs up. It returns why that is impossible,
// or nil. ctx bounds it.
func (p *Proxy) Probe(ctx context.Context) error {
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// CloseIdleConnections closes the connections to the target that no request
// uses.
func (p *Proxy) CloseIdleConnections() {
	p.plain.CloseIdleConnections()
	p.upgrades.CloseIdleConnections()
	if p.http2 != nil {
		p.http2.closeIdle()
	}
}

// copyBuffers is the BufferPool of an exchange's ReverseProxy.
type copyBuffers exchange

var (
	copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}
	bulkBufferPool = sync.Pool{New: func() any { return new([bulkBufferSize]byte) }}
)

// getCopyBuffer returns a buffer, a large one for a bulk of data.
func getCopyBuffer(bulk bool) []byte {
	if bulk {
		return bulkBufferPool.Get().(*[bulkBufferSize]byte)[:]
	}
	return copyBufferPool.Get().(*[copyBufferSize]byte)[:]
}

func putCopyBuffer(b []byte) {
	if len(b) == bulkBufferSize {
		bulkBufferPool.Put((*[bulkBufferSize]byte)(b))
	} else {
		copyBufferPool.Put((*[copyBufferSize]byte)(b))
	}
}

// Get is called when the answer is known.
func (ex *copyBuffers) Get() []byte { return getCopyBuffer(ex.w.length >= bulkBufferSize) }

// Put takes a buffer back.
func (*copyBuffers) Put(b []byte) { putCopyBuffer(b) }
