package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/h2conn"
	"github.com/websocktunnel/websocktunnel/internal/replay"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// A request for a tunnel of another node goes there in one hop: over a connection of
// its own kind, which belongs to nodes alone, as the request that would otherwise go
// into the tunnel. All that concerns the viewer is done by the node that it has come to;
// the other one looks into its own table only, and never sends a request on.
//
// The header wire.HeaderHop tells, on the request, what concerns the node that gets it,
// in fields with a space between them:
//
//	<label> <address of the viewer, or "-"> [hold] [bare]
//
// "hold" asks for an interim answer with the header "ready" as soon as a session has
// taken the request: a long body waits for it, since only its beginning can be sent
// again. "bare" asks the node to refuse a navigation to the bare path, as its session
// wants it. On an answer that is not the target's the header says why: "not-here",
// "bare", or the code of a failure. A later version may add fields at the end of each,
// which this one ignores.

var (
	// errNotHere: the node that was asked has no session for the tunnel. Nothing of the
	// request has been used.
	errNotHere = errors.New("server: this node has no session for the tunnel")

	// errMoving: another node has no session either, or no more of the request is there
	// to be sent again.
	errMoving = fmt.Errorf("server: the tunnel is on its way to another node: %w", cluster.ErrUnknown)

	errNodeAway = errors.New("server: the node that has the tunnel cannot be reached")

	// errBare: the request is a navigation to the bare path, which the session does not
	// want.
	errBare = errors.New("server: a browser belongs to the path with a slash")
)

// newsWait is how long a request waits for a tunnel of which the directory knows nothing,
// and other nodes may have had no chance to say that it is coming: its client knows its URL
// a little earlier than the directory does. See cluster_coming.go.
const newsWait = 500 * time.Millisecond

// movingWait is how long a request waits for a tunnel that has just left the node that
// the directory names.
const movingWait = 2 * time.Second

const (
	hopReady   = "ready"
	hopHold    = "hold"
	hopBare    = "bare"
	hopNotHere = "not-here"
	hopControl = "control " // what follows is no viewer's request: see control
)

// nodeHop is the way to another node that has the tunnel's session, for one attempt.
type nodeHop struct {
	node   *node
	holder cluster.Holder
	tunnel label
	link   *link // since begin
}

var _ carrier = (*nodeHop)(nil)

func (h *nodeHop) begin(ctx context.Context, _ netip.Addr) error {
	l, err := h.node.peer(h.holder.Node).link(ctx, h.holder.Suspect)
	if err != nil {
		return err
	}
	h.link = l
	l.peer.requests.Add(1)
	h.node.begin()
	return nil
}

func (h *nodeHop) end() {
	h.link.release()
	h.node.end()
}

func (h *nodeHop) transport() *h2conn.Transport { return h.link.tr }
func (h *nodeHop) counter() *traffic            { return &h.link.peer.traffic }
func (h *nodeHop) slowDown()                    {}
func (h *nodeHop) ownCode() wire.CloseCode      { return 0 }

// limits are kept by the node that has the tunnel. What it reads ahead on the link makes
// progress come in steps here, which may take longer than a limit although the target
// takes bytes all the time.
func (h *nodeHop) limits(*live) (stall, head time.Duration) { return 0, 0 }

// viewerStall returns the stall timeout that the viewer has to keep: none if that is another
// node, which looks after the real one. Zero is none.
func (x *exchange) viewerStall() time.Duration {
	if x.hop != nil {
		return 0
	}
	return x.live.StallTimeout
}

// lost says that the connection takes no more requests. It is not used again.
func (h *nodeHop) lost(wire.CloseCode) {
	if h.link != nil {
		h.link.peer.drop(h.link)
	}
}

// shunned is a node that has turned out not to have a tunnel, as far as the directory
// had it.
type shunned struct {
	boot string
	gen  uint64
	away bool // it could not be reached
}

func (s shunned) is(h cluster.Holder) bool { return s.boot == h.Node.Boot && s.gen == h.Gen }

// shun keeps the request from going to the node of via again, after that had no session
// or could not be reached. It reports false if it has happened before: then there is no
// other way.
func (x *exchange) shun(via carrier) bool {
	h, ok := via.(*nodeHop)
	if !ok || x.avoid.boot != "" && !x.avoid.away {
		return false
	}
	x.avoid = shunned{h.holder.Node.Boot, h.holder.Gen, h.link == nil}
	if x.avoid.away {
		h.node.member.Recheck(string(h.tunnel), h.holder)
	} else {
		h.node.member.Doubt(string(h.tunnel), h.holder)
	}
	x.patience = time.Now().Add(movingWait)
	if x.avoid.away {
		x.patience = time.Now().Add(settleWait)
	}
	return true
}

// begun is called when via has admitted the request, before it is sent.
func (x *exchange) begun(via carrier) error {
	sess, ok := via.(*session)
	if !ok {
		return nil
	}
	if (x.asksBare || x.hop != nil && x.hop.bare) && !sess.passesBarePath {
		return errBare
	}
	if x.hop != nil && x.hop.hold {
		x.w.ready()
	}
	return nil
}

// markHop tells the other node about the request, if it goes to one.
func (a *attempt) markHop(out *http.Request) {
	h, ok := a.via.(*nodeHop)
	if !ok {
		a.x.tunnelNode = ""
		return
	}
	a.x.tunnelNode = h.holder.Node.Name
	fields := make([]string, 2, 4)
	fields[0], fields[1] = string(a.x.tunnel), "-"
	if a.x.from.IsValid() {
		fields[1] = a.x.from.String()
	}
	if out.Body != nil && (out.ContentLength < 0 || out.ContentLength > replay.Limit) && out.Header.Get("Upgrade") == "" {
		fields = append(fields, hopHold)
		a.x.body.hold()
	}
	if a.x.asksBare {
		fields = append(fields, hopBare)
	}
	out.Header = out.Header.Clone()
	out.Header[wire.HeaderHop] = []string{strings.Join(fields, " ")}
}

// hopReady reports whether an interim answer with header h is another node's own, such as
// "ready". A later version may have others.
func (a *attempt) hopReady(h textproto.MIMEHeader) bool {
	if _, ok := a.via.(*nodeHop); !ok || len(h[wire.HeaderHop]) == 0 {
		return false
	}
	if word, _, _ := strings.Cut(h.Get(wire.HeaderHop), " "); word == hopReady {
		a.x.body.ready()
	}
	return true
}

// hopRefusal returns the failure that resp tells, if another node has made it.
func (a *attempt) hopRefusal(resp *http.Response) error {
	if _, ok := a.via.(*nodeHop); !ok {
		return nil
	}
	code, _, _ := strings.Cut(resp.Header.Get(wire.HeaderHop), " ")
	switch code {
	case "":
		return nil
	case hopNotHere:
		return errNotHere
	case hopBare:
		return errBare
	}
	if f, ok := hopFailures[errorCode(code)]; ok && f.status != 0 {
		return f
	}
	return failBroken
}

// hopFailures are the failures that one node tells another.
var hopFailures = func() map[errorCode]*failure {
	m := make(map[errorCode]*failure)
	for _, f := range []*failure{
		failLeft, failLoop, failBusy, failNotReplaced, failMemory, failBroken, failAnswerBroke, failTargetBroke, failBadAnswer, failHeaderTimeout, failStalled,
		failUnencodable, failBadBody, failTooManyFields, failHeaderTooLarge,
	} {
		m[f.code] = f
	}
	return m
}()

// hopRequest is what another node has told about a request.
type hopRequest struct {
	tunnel     label
	viewer     netip.Addr // the zero Addr: it is not known
	hold, bare bool

	link   *h2conn.Conn // on which it has come
	stream uint32       // there; 0: it is not known
}

// parseHop takes what a node has told out of h.
func parseHop(h http.Header) (*hopRequest, bool) {
	fields := strings.Fields(h.Get(wire.HeaderHop))
	delete(h, wire.HeaderHop)
	if len(fields) < 2 || !isLabel(fields[0]) {
		return nil, false
	}
	q := &hopRequest{tunnel: label(fields[0])}
	if fields[1] != "-" {
		addr, err := netip.ParseAddr(fields[1])
		if err != nil {
			return nil, false
		}
		q.viewer = addr
	}
	for _, f := range fields[2:] {
		switch f {
		case hopHold:
			q.hold = true
		case hopBare:
			q.bare = true
		}
	}
	return q, true
}
