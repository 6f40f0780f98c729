package target

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/internal/errorlog"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

const (
	// idleTimeout is how long an idle connection to the target is kept:
	// less than the 2 s (gunicorn) and 5 s (Node.js) after which servers that
	// are often targets close it, so that no request meets a dying connection.
	idleTimeout = 1500 * time.Millisecond

	// maxHeader bounds the header of the target's answer. It has to fit
	// into the tunnel, where the service admits 256 KiB.
	maxHeader = 200 << 10

	copyBufferSize = 64 << 10
)

// forwarded are the headers with which the service describes the viewer, and
// that a ReverseProxy drops.
var forwarded = [...]string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// Options tunes a [Proxy]. The zero value is ready to use.
type Options struct {
	// HostHeader is the Host that the target sees. Empty means the one that
	// the viewer sent.
	HostHeader string

	// TLSConfig is for https targets. Nil means the system's roots and the
	// host of the target as server name.
	TLSConfig *tls.Config

	// InsecureSkipVerify, for https targets, accepts any certificate.
	InsecureSkipVerify bool

	// KeepPrefix is for targets that are configured with the prefix under which
	// viewers see them, and expect it in requests: the path that the target
	// sees begins with X-Forwarded-Prefix, and has a slash behind it only if
	// the viewer's has.
	KeepPrefix bool

	// RewriteRedirects is for targets that know nothing of the prefix under
	// which viewers see them: where an answer's Location, Content-Location,
	// Refresh or a cookie's Path is an absolute path, or a URL of the target
	// itself, X-Forwarded-Prefix is put before it, unless it is there already.
	RewriteRedirects bool

	// Logger receives a warning for each request that the target failed.
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
// Requests go to target and nowhere else: no redirect is followed and no proxy
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
	if err := faults.Err(); err != nil {
		return nil, err
	}
	p := &Proxy{
		url:      url.URL{Scheme: t.scheme, Host: t.host},
		host:     o.HostHeader,
		keeps:    o.KeepPrefix,
		rewrites: o.RewriteRedirects,
		log:      errorlog.Bounded(o.Logger),
	}
	var own, http1 http.Protocols
	http1.SetHTTP1(true)
	switch t.scheme {
	case "https":
		own.SetHTTP1(true)
		own.SetHTTP2(true)
	case "h2c":
		p.url.Scheme = "http"
		own.SetUnencryptedHTTP2(true)
	default:
		own = http1
	}
	p.plain = newTransport(t, o, own)
	p.upgrades = p.plain
	if own != http1 {
		p.upgrades = newTransport(t, o, http1)
	}
	p.proxy = httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p,
		FlushInterval:  -1,
		ErrorLog:       errorlog.New(o.Logger),
		BufferPool:     copyBuffers{},
		ModifyResponse: p.modifyResponse,
		ErrorHandler:   p.fail,
	}
	return p, nil
}

// A Proxy is a handler that sends requests to a target. It keeps idle connections
// to the target for a moment. [New] makes one.
type Proxy struct {
	proxy    httputil.ReverseProxy
	url      url.URL // scheme and host of all requests
	host     string  // Host header, or "" for the viewer's
	keeps    bool    // Options.KeepPrefix
	rewrites bool    // Options.RewriteRedirects
	log      zerolog.Logger
	plain    *http.Transport
	upgrades *http.Transport // speaks HTTP/1.1 only
}

var (
	_ http.Handler      = (*Proxy)(nil)
	_ http.RoundTripper = (*Proxy)(nil)
)

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
	}
	return tr
}

// writerKey is the context key of a request's *unaltered.
type writerKey struct{}

func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		// Not a request for this target, and httputil could not carry it.
		http.Error(w, "CONNECT is not supported", http.StatusMethodNotAllowed)
		return
	}
	uw := newUnaltered(w)
	defer uw.closeUpgraded()
	ctx := context.WithValue(r.Context(), writerKey{}, uw)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { uw.targetConn.Store(&i.Conn) },
	})
	p.proxy.ServeHTTP(uw, withEndedBody(r.WithContext(ctx)))
}

func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	out := pr.Out
	prefix := ""
	if p.keeps {
		prefix = forwardedPrefix(pr.In)
	}
	*out.URL = requestTarget(pr.In, prefix)
	if prefix != "" && out.URL.Opaque == prefix+"/" && askedForBare(pr.In, prefix) {
		out.URL.Opaque = prefix
	}
	out.URL.Scheme, out.URL.Host = p.url.Scheme, p.url.Host
	if p.host != "" {
		out.Host = p.host
	}
	for _, k := range forwarded {
		if vv, ok := pr.In.Header[k]; ok {
			out.Header[k] = vv
		}
	}
	if len(pr.In.Trailer) > 0 {
		out.Trailer = pr.In.Trailer // the map that fills up while the body is read
		out.ContentLength = -1      // HTTP/1.1 has trailers in the chunked coding only
	}
}

// forwardedPrefix returns the prefix under which the viewer sees the target,
// as the service names it, without a trailing slash.
func forwardedPrefix(r *http.Request) string {
	prefix := strings.TrimRight(r.Header.Get("X-Forwarded-Prefix"), "/")
	if !strings.HasPrefix(prefix, "/") || strings.HasPrefix(prefix, "//") || strings.ContainsAny(prefix, " ?#") {
		return ""
	}
	return prefix
}

// askedForBare reports whether the viewer's path was prefix without a slash
// behind it, which arrives as "/" like the one with it. The original path lacks
// what a proxy in front of the service has stripped.
func askedForBare(r *http.Request, prefix string) bool {
	path := r.Header.Get(wire.HeaderOriginalPath)
	return path != "" && strings.HasSuffix(prefix, path)
}

// requestTarget returns a URL from which net/http makes, byte for byte, the
// request target that r came with, behind prefix. That is r.RequestURI, unless
// a handler in between has changed r.URL.
func requestTarget(r *http.Request, prefix string) url.URL {
	in := r.URL
	out := url.URL{Path: in.Path, RawPath: in.RawPath, RawQuery: in.RawQuery, ForceQuery: in.ForceQuery}
	if !strings.HasPrefix(in.Path, "/") && in.Path != "*" { // http.StripPrefix
		out.Path, out.RawPath = "/"+in.Path, "/"+in.RawPath
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	u, err := url.ParseRequestURI(r.RequestURI)
	unchanged := err == nil && u.Scheme == "" &&
		u.Path == in.Path && u.RawPath == in.RawPath && u.RawQuery == in.RawQuery
	// As an Opaque, a path that begins with two slashes would be taken for an
	// authority. EscapedPath changes such a path only where it is invalid.
	switch {
	case unchanged && !strings.HasPrefix(prefix+path, "//"):
		out.Opaque = escapeSpaces(prefix + path)
	case prefix != "":
		out.Opaque = prefix + out.EscapedPath()
	}
	out.RawQuery = escapeSpaces(out.RawQuery)
	return out
}

// escapeSpaces keeps a space, which HTTP/2 lets pass, from ending the request
// target in the request line of HTTP/1.1.
func escapeSpaces(s string) string { return strings.ReplaceAll(s, " ", "%20") }

// RoundTrip implements [http.RoundTripper].
func (p *Proxy) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header.Get("Upgrade") != "" {
		resp, err := watched(p.upgrades, r)
		if err == nil && resp.StatusCode == http.StatusSwitchingProtocols {
			chooseProtocol(r.Header, resp.Header.Get("Upgrade"))
		}
		return resp, err
	}
	// An answer may end while its request goes on. Without an end of its own
	// the HTTP/2 transport would wait for that when the body is closed.
	ctx, cancel := context.WithCancel(r.Context())
	out, body := expectBody(r.WithContext(ctx))
	if w, ok := ctx.Value(writerKey{}).(*unaltered); ok {
		w.expected = body
	}
	resp, err := watched(p.plain, out)
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Request = r
	resp.Body = cancelFirst{resp.Body, cancel}
	return resp, nil
}

// chooseProtocol narrows what an Upgrade header offers to the one protocol that
// the target has chosen, since a ReverseProxy accepts only what was asked for.
func chooseProtocol(h http.Header, chosen string) {
	if httpguts.HeaderValuesContainsToken(h["Upgrade"], chosen) {
		h["Upgrade"] = []string{chosen}
	}
}

// CloseIdleConnections closes the connections to the target that no request
// uses.
func (p *Proxy) CloseIdleConnections() {
	p.plain.CloseIdleConnections()
	p.upgrades.CloseIdleConnections()
}

func (p *Proxy) modifyResponse(resp *http.Response) error {
	resp.Header.Del(wire.HeaderError) // it is not the target's to say
	if resp.StatusCode != http.StatusSwitchingProtocols && (resp.StatusCode < 200 || resp.StatusCode > 599) {
		return fmt.Errorf("%w: status %d", errBadStatus, resp.StatusCode)
	}
	if p.rewrites {
		newRedirectRewriter(resp.Request).apply(resp.Header)
	}
	if headerSize(resp.Header) > maxHeader {
		return errHeaderTooLarge
	}
	if resp.StatusCode == http.StatusNotModified {
		// It has no body, whatever length it names. Where it comes over HTTP/2,
		// net/http takes that body for one that broke off.
		resp.Body = bodyless{http.NoBody, resp.Body}
		resp.ContentLength = 0
		delete(resp.Header, "Content-Length")
	}
	if w, ok := resp.Request.Context().Value(writerKey{}).(*unaltered); ok {
		w.length = resp.ContentLength
		if b, ok := resp.Body.(io.ReadWriteCloser); ok && resp.StatusCode == http.StatusSwitchingProtocols {
			w.upgraded = newTargetEnd(b, w.upgradeOf(resp.Request))
			resp.Body = w.upgraded
		}
		if _, ok := resp.Header["Content-Length"]; !ok && resp.ContentLength == 0 {
			w.noLength = true
		}
		if resp.Request.Method == http.MethodHead {
			w.length = 0
		}
	}
	return nil
}

// fail answers a request to which the target gave no answer.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the viewer has left: no answer, not an empty one
	}
	if answerCancelledGRPC(w, r, err) {
		return
	}
	f := classify(err)
	p.log.Warn().Str("error", redact.Error(err)).Str("error_type", f.kind).Str("method", fmt.Sprintf("%.40s", r.Method)).Msg("the target failed")
	h := w.Header()
	clear(h)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set(wire.HeaderError, f.kind)
	w.WriteHeader(f.status)
	fmt.Fprintln(w, f.text)
}

// copyBuffers is a pool of buffers for bodies.
type copyBuffers struct{}

var copyBufferPool = sync.Pool{New: func() any { return new([copyBufferSize]byte) }}

func (copyBuffers) Get() []byte  { return copyBufferPool.Get().(*[copyBufferSize]byte)[:] }
func (copyBuffers) Put(b []byte) { copyBufferPool.Put((*[copyBufferSize]byte)(b)) }

// cancelFirst is an answer's body whose Close ends the request as well.
type cancelFirst struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b cancelFirst) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// bodyless is the body of an answer that has none, with the Close of the one
// that net/http made of it.
type bodyless struct {
	io.Reader
	io.Closer
}
