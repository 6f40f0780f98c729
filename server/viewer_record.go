package server

import (
	"cmp"
	"net/http"
	"net/netip"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// RequestInfo tells what has become of one request, for [Config.RequestDone] and
// [Config.TraceRequest]. It
// has nothing of the query, of bodies or of headers but the ones named here, and
// what a viewer has chosen in it is as it came: escape it.
type RequestInfo struct {
	// ID names the request: what a trusted proxy or Go code calls it
	// (X-Request-Id), or a random number in hex. The target gets it too.
	ID string

	// Start is when the request's headers were there, Begun when those of the
	// answer went to the viewer (zero: none did), and End when all was over.
	Start, Begun, End time.Time

	// Viewer is the address of the viewer, from a trusted proxy where there is
	// one. It is the zero Addr if it is not known, and for Go code.
	Viewer netip.Addr

	Method, Host       string
	Proto              string // of the viewer, such as HTTP/2.0; empty for Go code
	UserAgent, Referer string

	// Tunnel is the client id, or the label in host mode; empty if the request
	// was for no tunnel. Path is the raw path without the query; empty for a
	// malformed request, and for Go code. Prefix is the part of Path that names
	// the tunnel, or a path of the service's own: "/<id>", or empty on a host of
	// the tunnel's own. What comes behind it may be a secret.
	Tunnel, Path, Prefix string

	// TunnelNode is the node of the cluster that the request was sent on to, since it
	// has the tunnel. Empty if it was not: the tunnel is here, or nowhere.
	TunnelNode string

	// TunnelProto is how the request crossed the tunnel: HTTP/2.0, and for an upgrade
	// the form of it, extended-connect or fallback. TargetProto is what the tunnel client
	// speaks with its target: HTTP/1.0, HTTP/1.1 or HTTP/2.0. Both are empty if that is
	// not known.
	TunnelProto, TargetProto string

	// Status is that of the answer; 0 if there was none.
	Status int

	// Producer is the party that made the answer: service, client (the tunnel
	// client, for its target) or target. Empty if there was none.
	Producer string

	// FailedHop is the party because of which there is no whole answer of the
	// target, viewer, service, client or target, Error an error type of RFC 9209,
	// and ErrorCode one of the codes in docs/errors.md. All are empty if there is
	// one.
	FailedHop, Error, ErrorCode string

	// Received and Sent are the bytes of the bodies from and to the viewer. After
	// an upgrade they are those of its two directions.
	Received, Sent int64

	// Broken says that the answer broke off.
	Broken bool

	trace *RequestTrace // nil if there is none
}

const protoHTTP2 = "HTTP/2.0"

// viewerProto returns what the viewer speaks whose request r is answered to w. An
// extended CONNECT looks like a request of HTTP/1.1.
func viewerProto(w http.ResponseWriter, r *http.Request) string {
	if r.ProtoMajor == 2 || h2conn.TranslatedConnect(w) {
		return protoHTTP2
	}
	return r.Proto
}

// takeTargetProto takes out of an answer what the tunnel client says that its target
// speaks, and returns it, or "" if that is nothing known.
func takeTargetProto(h http.Header) string {
	v := h[wire.HeaderTargetProto]
	delete(h, wire.HeaderTargetProto)
	if len(v) == 1 {
		switch v[0] {
		case "HTTP/1.0", "HTTP/1.1", protoHTTP2:
			return v[0]
		}
	}
	return ""
}

// record begins the RequestInfo of r, which is called id and answered to w, or returns
// nil if nobody wants it.
func (s *Server) record(w http.ResponseWriter, r *http.Request, rt route, id string) *RequestInfo {
	if !s.recording() {
		return nil
	}
	i := &RequestInfo{
		ID: id, Start: time.Now(), Viewer: s.live.Load().forwarding.clientAddr(r),
		Method: r.Method, Host: r.Host, Proto: viewerProto(w, r), UserAgent: r.Header.Get("User-Agent"), Referer: r.Header.Get("Referer"),
	}
	switch rt.kind {
	case routeTunnel:
		i.Tunnel, i.Path = rt.name(), rt.rawPath()
		if !rt.ownHost {
			i.Prefix = "/" + rt.id
		}
	case routeReserved:
		i.Path, i.Prefix = rt.rawPath(), rt.rawPath()
	case routeNone:
		i.Path = rt.rawPath()
	}
	return s.begin(i, r.Header)
}

// recordCode is record for a request of Go code to a tunnel.
func (s *Server) recordCode(req *http.Request, tunnel, id string) *RequestInfo {
	if !s.recording() {
		return nil
	}
	return s.begin(&RequestInfo{ID: id, Start: time.Now(), Method: cmp.Or(req.Method, http.MethodGet), Host: req.Host, Tunnel: tunnel}, req.Header)
}

// failed says why there is no whole answer of the target, unless f is nil.
func (i *RequestInfo) failed(f *failure) {
	if f != nil {
		i.FailedHop, i.Error, i.ErrorCode = string(f.hop), f.kind, string(f.code)
	}
}

// done completes the record of an exchange and gives it away.
func (x *exchange) done() {
	i := x.info
	if i == nil {
		return
	}
	o := &x.out
	i.Start, i.Begun, i.End = o.start, o.begun, o.end
	i.TunnelNode, i.TunnelProto, i.TargetProto = x.tunnelNode, x.tunnelProto, x.targetProto
	i.Status, i.Received, i.Sent, i.Broken = o.status, o.received, o.sent, o.broken || o.tunnelBroke != nil
	i.failed(o.reason())
	switch {
	case o.status == 0:
	case o.failure != nil && o.failure.byClient:
		i.Producer = string(hopTunnelClient)
	case o.failure != nil || x.answer == nil:
		i.Producer = string(hopService)
	default:
		i.Producer = string(hopTarget)
	}
	x.srv.tell(i)
}

// declined completes the record of a request that has become no exchange, and gives
// it away: its answer had sent bytes. f is the reason, or nil if the service has
// answered well.
func (s *Server) declined(i *RequestInfo, status, sent int, f *failure) {
	if i == nil {
		return
	}
	i.End = time.Now()
	i.Begun, i.Status, i.Sent, i.Producer = i.End, status, int64(sent), string(hopService)
	i.failed(f)
	s.tell(i)
}
