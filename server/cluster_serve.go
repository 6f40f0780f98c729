package server

import (
	"errors"
	"net/http"
	"net/http/httputil"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// serveHop answers a request that another node has sent, on a link, which holds memory.
func (n *node) serveHop(w http.ResponseWriter, r *http.Request, link *h2conn.Conn, memory *linkMemory) {
	if what, ok := strings.CutPrefix(r.Header.Get(wire.HeaderHop), hopControl); ok {
		what, _, _ = strings.Cut(what, " ") // what follows is of a later version
		n.control(w, r, what)
		return
	}
	q, ok := parseHop(r.Header)
	if !ok {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	q.link, q.stream = link, h2conn.StreamOf(r)
	s := n.srv
	m := &requestMemory{addr: q.viewer}
	m.Holding = s.memory.hold(m.cut, m.addr)
	well := false
	defer func() { m.done(well) }()
	x := s.newHopExchange(w, r, q, m)
	if s.chargeRequest(m, r, q, memory) != nil || m.Admit(requestCost+exchangeCost+headerCost(r.Header)+int64(len(r.RequestURI))) != nil {
		x.fail(failMemory)
		x.finish()
		return
	}
	x.serve()
	well = true
}

// newHopExchange returns the exchange of a request that another node has sent on. Its
// viewer is that node: what concerns the real one has been done there.
func (s *Server) newHopExchange(w http.ResponseWriter, r *http.Request, q *hopRequest, m *requestMemory) *exchange {
	rt := route{kind: routeTunnel, ownHost: true, label: q.tunnel}
	rt.rest, rt.query, rt.hasQuery = strings.Cut(r.RequestURI, "?")
	x := &exchange{
		srv: s, live: s.live.Load(), id: r.Header.Get(wire.HeaderRequestID), tunnel: q.tunnel,
		from:   subscriber(q.viewer),
		route:  rt,
		hop:    q,
		memory: m,
		out:    outcome{start: time.Now(), proto: protoHTTP2},
	}
	x.open(w, r)
	return x
}

// rewrite gives the request back what ReverseProxy has taken from it.
func (q *hopRequest) rewrite(pr *httputil.ProxyRequest) {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if vv, ok := pr.In.Header[name]; ok {
			pr.Out.Header[name] = vv
		}
	}
}

// refuseHop tells the node that has sent the request why there is no answer of a target.
func (x *exchange) refuseHop(err error, f *failure) {
	status, code := f.status, string(f.code)
	switch {
	case errors.Is(err, errNotHere):
		status, code = http.StatusMisdirectedRequest, hopNotHere
		x.srv.cluster.misled(x.tunnel)
	case errors.Is(err, errBare):
		status, code = http.StatusTemporaryRedirect, hopBare
	default:
		x.out.failure = f
	}
	h := x.w.Header()
	h[wire.HeaderHop] = []string{code}
	h.Set("Content-Length", "0")
	if status == 0 {
		status = http.StatusBadGateway
	}
	x.w.WriteHeader(status)
}

// ready tells the node that has sent the request that a session has taken it.
func (w *viewerWriter) ready() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queueLocked(http.StatusProcessing, http.Header{wire.HeaderHop: {hopReady}})
}
