package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
	"github.com/websocktunnel/websocktunnel/internal/redact"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// copyBuffer is the size of the buffers that answers are copied through.
const copyBuffer = 64 << 10

// viewerKey is the context key of a *viewing.
type viewerKey struct{}

// viewing is one request of a viewer.
type viewing struct {
	rt    route
	from  netip.Addr // the viewer, as the subscriber that it counts for
	w     *viewerWriter
	http1 bool
	body  io.Closer // of the answer; nil before there is one

	request *continuingBody // of the request; nil if it has none

	// failed is set when the tunnel client has reported a failure. What follows
	// from that ends the request, and must not be taken for the viewer's leave.
	failed bool
}

// endRequest ends the request before its handler returns. What net/http finds
// of a body after that, while full duplex is on, makes it panic at the next
// request of the connection (golang/go#68560).
func (v *viewing) endRequest() {
	if v.http1 && v.w.wrote && !v.request.over() {
		_ = v.w.rc.Flush() // the viewer is not to wait for what follows
	}
	v.request.Close()
}

// requester returns who a request with this context counts for. Requests of Go
// code, by Server.RoundTripper, have no address and count together.
func requester(ctx context.Context) netip.Addr {
	if v, ok := ctx.Value(viewerKey{}).(*viewing); ok {
		return v.from
	}
	return netip.Addr{}
}

func viewingOf(r *http.Request) *viewing { return r.Context().Value(viewerKey{}).(*viewing) }

// serveViewer carries a viewer's request to the tunnel of rt.
func (s *Server) serveViewer(w http.ResponseWriter, r *http.Request, rt route) {
	if r.Host != "" && !validHost(r.Host) || !printable(strings.Join(r.Header["Upgrade"], ",")) ||
		!httpguts.ValidHeaderFieldName(r.Method) { // both are tokens
		failUnencodable.write(w, r)
		return
	}
	if r.ProtoMajor == 2 && !plainLength(r) {
		failBadBody.write(w, r)
		return
	}
	v := &viewing{
		rt:    rt,
		from:  subscriber(s.forwarding.clientAddr(r)),
		w:     &viewerWriter{ResponseWriter: w, rc: http.NewResponseController(w)},
		http1: r.ProtoMajor == 1,
	}
	if h2conn.TranslatedConnect(r) {
		v.w.hijackStall = s.cfg.StallTimeout
	}
	v.w.last = func() bool { return s.isDraining() || v.http1 && v.request != nil && !v.request.isWhole() }
	http10 := v.http1 && r.ProtoMinor == 0
	v.w.noInterim = http10
	v.w.interim = func(h http.Header) { s.isolation.apply(h, rt) }
	if r.ProtoMajor == 2 {
		v.w.dog.timeout = s.cfg.StallTimeout
		v.w.dog.bite = func() { v.w.rc.SetWriteDeadline(time.Unix(1, 0)) }
	}
	if v.http1 && !http10 {
		// The answer may begin, and go on, while the request is still coming.
		_ = v.w.rc.EnableFullDuplex()
	}
	conn, accepted := r.Context().Value(connKey{}).(net.Conn)
	if http10 {
		if accepted {
			// Should the process be killed, the kernel closes the connection:
			// until the answer is whole this has to be a reset too.
			netconn.SetLinger(conn, 0)
			defer netconn.SetLinger(conn, -1)
		}
		defer v.w.resetOnAbort()
	}
	r = r.WithContext(context.WithValue(r.Context(), viewerKey{}, v))
	if r.Body != nil && r.Body != http.NoBody {
		v.request = &continuingBody{ReadCloser: r.Body, w: v.w, http1: v.http1, conn: conn}
		r.Body = v.request
		defer v.endRequest()
	}
	defer func() {
		// ReverseProxy leaves the body of a 101 open that it does not like.
		if v.body != nil {
			v.body.Close()
		}
	}()
	s.proxy.ServeHTTP(v.w, r)
}

// plainLength reports whether an HTTP/2 request names the length of its body at
// most once, and properly. net/http looks after that for HTTP/1, x/net takes the
// first one, and a nonsensical one for zero.
func plainLength(r *http.Request) bool {
	length := r.Header["Content-Length"]
	switch {
	case len(length) == 0:
		return true
	case len(length) > 1 || !digits(length[0]):
		return false
	case r.ContentLength == 0: // also if there is no body, or the number is too large
		return strings.Trim(length[0], "0") == ""
	}
	return true
}

// miss answers a viewer who asked for what is not here, with f or, after too
// many such, with 429.
func (s *Server) miss(w http.ResponseWriter, r *http.Request, f *failure) {
	if wait, ok := s.misses.allow(s.forwarding.clientAddr(r)); !ok {
		f = &failure{
			status: http.StatusTooManyRequests, kind: "http_request_denied", hop: hopService,
			text: "Too many requests from this address for what is not here.", retryAfter: wait,
		}
	}
	f.write(w, r)
}

// newProxy returns the one ReverseProxy of the service. What differs from
// request to request is in the context.
func (s *Server) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:        s.rewrite,
		Transport:      viewerTransport{s},
		FlushInterval:  -1, // each write at once: see viewerWriter.Flush
		BufferPool:     new(bufferPool),
		ModifyResponse: s.modifyAnswer,
		ErrorHandler:   s.proxyError,
		ErrorLog:       s.errorLog,
	}
}

// viewerTransport sends a viewer's request through its tunnel.
type viewerTransport struct{ srv *Server }

func (t viewerTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	v := viewingOf(req)
	if v.request != nil && req.Body != nil {
		// ReverseProxy's wrapper would not let Close through.
		req.Body = v.request
	}
	resp, err := t.srv.roundTrip(req, v.rt.tunnel())
	if err != nil {
		return nil, err
	}
	v.body = resp.Body
	if u, ok := resp.Body.(*upgradedAnswer); ok {
		v.w.broken = u.broken.Load
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// ReverseProxy wants the one protocol that was asked for, but the
		// target has chosen from a list.
		if p := resp.Header.Get("Upgrade"); httpguts.HeaderValuesContainsToken(req.Header["Upgrade"], p) {
			req.Header["Upgrade"] = []string{p}
		}
	}
	return resp, nil
}

// rewrite makes the request that goes into the tunnel.
func (s *Server) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	rt := viewingOf(in).rt

	// HTTP/1.0 can do without a Host; HTTP/2 cannot.
	out.Host = in.Host
	if out.Host == "" {
		out.Host = s.cfg.publicURL.Host
	}
	out.URL = targetURL(out.Host, rt)

	// ReverseProxy copies trailers at the start, when they have no values yet.
	out.Trailer = in.Trailer

	offered := in.Header["Upgrade"]
	if _, ok := out.Header["Upgrade"]; ok && (len(offered) > 1 || httpguts.HeaderValuesContainsToken(offered, "h2c")) {
		// ReverseProxy has left the first line of it.
		if list := upgradeList(offered); list != "" {
			out.Header.Set("Upgrade", list)
		} else {
			out.Header.Del("Upgrade")
			out.Header.Del("Connection")
		}
	}
	out.Header.Del("Http2-Settings")

	s.forwarding.apply(out.Header, in, rt.id, rt.rawPath())
	if id := in.Header[wire.HeaderID]; rt.ownHost && len(id) > 0 {
		out.Header[wire.HeaderID] = id // means nothing to us there
	}
}

// upgradeList returns what an Upgrade header of several lines offers in one,
// without h2c: that is about this hop (RFC 9113, section 3.1, has abolished it),
// and curl --http2 sends it on every request. A target that chose it would go on
// with requests that nobody here sees.
func upgradeList(lines []string) string {
	var all []string
	for _, line := range lines {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.Trim(p, " \t"); p != "" && !strings.EqualFold(p, "h2c") {
				all = append(all, p)
			}
		}
	}
	return strings.Join(all, ", ")
}

// targetURL returns a URL that x/net puts into :path byte for byte.
func targetURL(host string, rt route) *url.URL {
	path := rt.upstreamPath()
	if strings.HasPrefix(path, "//") {
		// RequestURI takes this for an authority and puts the scheme before it,
		// and x/net takes scheme and host away again.
		path = "//" + host + path
	}
	return &url.URL{
		Scheme: "http", Host: host, Opaque: path,
		RawQuery: rt.query, ForceQuery: rt.hasQuery && rt.query == "",
	}
}

// modifyAnswer makes the answer that the viewer gets.
func (s *Server) modifyAnswer(resp *http.Response) error {
	v := viewingOf(resp.Request)
	if kind := resp.Header.Get(wire.HeaderError); kind != "" {
		// The tunnel client has no answer from its target, and says why.
		v.failed = resp.Request.Context().Err() == nil
		return clientFailure(resp.StatusCode, kind)
	}
	delete(resp.Header, wire.HeaderError)
	s.isolation.apply(resp.Header, v.rt)
	if len(resp.Trailer) > 0 && v.http1 {
		// HTTP/1.1 has trailers only after a body in the chunked coding.
		resp.Header.Del("Content-Length")
		resp.ContentLength = -1
	}
	v.w.emptyBody = resp.ContentLength == 0
	if _, ok := resp.Header["Content-Length"]; !ok && v.w.emptyBody {
		v.w.noLength = true
	}
	v.w.unknownLength = resp.ContentLength < 0
	return nil
}

// clientFailure is a failure that the tunnel client reports.
func clientFailure(status int, kind string) *failure {
	if !knownErrors[kind] {
		kind = "proxy_internal_response"
	}
	f := &failure{
		status: http.StatusBadGateway, kind: kind, hop: hopClient,
		text: "The tunnel client could not get an answer from its target.",
	}
	if status == http.StatusGatewayTimeout {
		f.status = status
		f.text = "The tunnel client's target did not answer in time."
	}
	return f
}

// knownErrors are the error types of RFC 9209, section 2.3, that a tunnel
// client may report.
var knownErrors = map[string]bool{
	"dns_timeout": true, "dns_error": true,
	"destination_not_found": true, "destination_unavailable": true,
	"destination_ip_prohibited": true, "destination_ip_unroutable": true,
	"connection_refused": true, "connection_terminated": true, "connection_timeout": true,
	"connection_read_timeout": true, "connection_write_timeout": true, "connection_limit_reached": true,
	"tls_protocol_error": true, "tls_certificate_error": true, "tls_alert_received": true,
	"http_request_error": true, "http_response_incomplete": true,
	"http_response_header_section_size": true, "http_response_header_size": true,
	"http_response_body_size": true, "http_response_trailer_section_size": true,
	"http_response_timeout": true, "http_upgrade_failed": true, "http_protocol_error": true,
	"proxy_internal_error": true, "proxy_configuration_error": true,
}

// proxyError answers a viewer whose request could not be carried.
func (s *Server) proxyError(w http.ResponseWriter, r *http.Request, err error) {
	v := viewingOf(r)
	if r.Context().Err() != nil && !v.failed {
		// The viewer has gone. There is nobody to answer, and nothing to log.
		panic(http.ErrAbortHandler)
	}
	f := errFor(err)
	if f == failBroken {
		f = unsent(err)
	}
	if f != failNoTunnel {
		log := s.lines.of(v.rt.tunnel()).limited(s.log, linesPerSecond-1)
		log.Debug().Str("id", v.rt.name()).Int("status", f.status).Str("error", redact.Error(err)).Msg("request failed")
	}
	clear(w.Header())
	if f == failNoTunnel {
		s.miss(v.w, r, f)
		return
	}
	f.write(v.w, r)
}

// unsent tells requests that x/net refused to encode from those that were
// lost. It has no types for that.
func unsent(err error) *failure {
	switch text := err.Error(); {
	case strings.Contains(text, "request header list larger than"):
		return failHeaderTooLarge
	case strings.HasPrefix(text, "http2: invalid "), strings.Contains(text, "invalid Host header"), strings.Contains(text, "invalid request :path"):
		return failUnencodable
	}
	return failBroken
}

// validHost reports whether host can be carried as :authority. What the peer
// rejects there would end the tunnel.
func validHost(host string) bool {
	return httpguts.ValidHostHeader(host) && !strings.Contains(host, "@")
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// bufferPool is ReverseProxy's.
type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, copyBuffer)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }

var _ httputil.BufferPool = (*bufferPool)(nil)
