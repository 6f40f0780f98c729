package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/logevent"
	"github.com/websocktunnel/websocktunnel/internal/wire"
)

// What nodes tell each other beside viewers' requests: who has been evicted, and what
// operators ask.
const (
	controlEvictions = "evictions" // the body is a sharedEvictions
	controlEvict     = "evict"     // the body is an id
	controlAdmin     = "admin"     // the request is for ClusterConfig.Admin

	controlTimeout = 2 * time.Second
	maxControl     = 4 << 20
)

// sharedEvictions are what a node knows of evictions.
type sharedEvictions struct {
	Blocked []sharedEviction     `json:"blocked"`
	Lifted  map[string]time.Time `json:"lifted"`
}

type sharedEviction struct {
	ID     string    `json:"id"`
	Issued int64     `json:"issued"`
	Tokens []string  `json:"tokens"` // fingerprints in hex
	Until  time.Time `json:"until"`
	At     time.Time `json:"at"`
}

// shared returns what others are to know.
func (e *evictions) shared() sharedEvictions {
	all := sharedEvictions{Lifted: maps.Clone(e.lifted)}
	for id, b := range e.blocked {
		one := sharedEviction{ID: id, Issued: b.issued, Until: b.until, At: b.at}
		for t := range b.tokens {
			one.Tokens = append(one.Tokens, hex.EncodeToString(t[:]))
		}
		all.Blocked = append(all.Blocked, one)
	}
	return all
}

// learn takes in what another node knows, and returns the ids of which more is blocked now.
func (e *evictions) learn(all sharedEvictions, now time.Time) (changed []string) {
	for id, at := range all.Lifted {
		if now.Sub(at) < liftedMemory && at.After(e.lifted[id]) {
			b := e.blocked[id]
			e.lift(id, now)
			e.lifted[id] = at
			if b != nil && b.at.After(at) {
				e.blocked[id] = b
			}
		}
	}
	for _, one := range all.Blocked {
		if !now.Before(one.Until) || !one.At.After(e.lifted[one.ID]) || wire.CheckID(one.ID) != nil {
			continue
		}
		for _, t := range one.Tokens {
			var g grant
			if n, err := hex.Decode(g.fingerprint[:], []byte(t)); err != nil || n != len(g.fingerprint) {
				continue
			}
			if b := e.blocked[one.ID]; b != nil && (one.Issued < b.issued || one.Issued == b.issued && b.tokens[g.fingerprint]) {
				continue // it is known
			}
			g.id, g.issued, g.expires = one.ID, one.Issued, one.Until.Add(-tokenLeeway)
			e.block(g, now)
			e.blocked[one.ID].at = one.At
			changed = append(changed, one.ID)
		}
	}
	return changed
}

// learn takes in evictions that another node knows of, and cuts the sessions whose tokens
// are blocked now.
func (g *registry) learn(all sharedEvictions, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range g.evictions.learn(all, now) {
		tun := g.tunnels[labelOf(id)]
		if tun == nil {
			continue
		}
		for _, s := range tun.sessions() {
			if g.evictions.check(s.inForce(), now) != nil {
				tun.owed = nil
				tun.moveLocked(s, stateClosing, wire.CloseEvicted, "")
			}
		}
		g.tidyLocked(tun)
	}
}

func (g *registry) sharedEvictions() sharedEvictions {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.evictions.shared()
}

// shareEvictions tells all nodes that can be reached who is blocked and who is not. Others
// hear it when there is a link to them again.
func (n *node) shareEvictions() {
	if n == nil {
		return
	}
	var all sync.WaitGroup
	for _, p := range n.others() {
		all.Go(func() { n.shareWith(p) })
	}
	all.Wait()
}

// shareWith is shareEvictions for one node.
func (n *node) shareWith(p *peer) {
	body, err := json.Marshal(n.srv.registry.sharedEvictions())
	if err == nil {
		err = n.ask(p, controlEvictions, body)
	}
	if err != nil {
		n.srv.log.Debug().Str(logevent.Field, logevent.NodeDeaf).Err(err).Str("other", p.of.Name).Msg("evictions not shared")
	}
}

// evictElsewhere evicts a tunnel that another node has, and reports whether one has.
func (n *node) evictElsewhere(id string) bool {
	if n == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(n.ctx, controlTimeout)
	defer cancel()
	h, err := n.member.Find(ctx, string(labelOf(id)))
	return err == nil && n.ask(n.peer(h.Node), controlEvict, []byte(id)) == nil
}

// others returns the other nodes.
func (n *node) others() (list []*peer) {
	for _, other := range n.member.Status().Nodes {
		if other.Name != n.member.Name() {
			list = append(list, n.peer(other.Node))
		}
	}
	return list
}

var errDeclined = errors.New("server: the other node declines")

// ask tells p something. An error means that it has not heard it, or declines.
func (n *node) ask(p *peer, what string, body []byte) error {
	ctx, cancel := context.WithTimeout(n.ctx, controlTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.of.Name+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := p.roundTrip(req, what)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("%w: %d", errDeclined, resp.StatusCode)
	}
	return nil
}

// roundTrip sends a request that is none of a viewer.
func (p *peer) roundTrip(req *http.Request, what string) (*http.Response, error) {
	l, err := p.link(req.Context(), false)
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.Header[wire.HeaderHop] = []string{hopControl + what}
	resp, err := l.tr.RoundTrip(out)
	if err != nil {
		l.release()
		return nil, err
	}
	resp.Body = &releasingBody{resp.Body, sync.OnceFunc(l.release)}
	return resp, nil
}

// releasingBody gives a link back with the answer's end.
type releasingBody struct {
	io.ReadCloser
	release func()
}

func (b *releasingBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// control answers a request of another node that is none of a viewer.
func (n *node) control(w http.ResponseWriter, r *http.Request, what string) {
	delete(r.Header, wire.HeaderHop)
	if what == controlAdmin {
		if h := n.srv.cfg.Cluster.Admin; h != nil {
			h.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
	status := http.StatusNoContent
	switch {
	case err != nil:
		status = http.StatusBadRequest
	case what == controlEvictions:
		var all sharedEvictions
		if json.Unmarshal(body, &all) != nil {
			status = http.StatusBadRequest
			break
		}
		n.srv.registry.learn(all, n.srv.cfg.now())
	case what == controlEvict:
		if here, away := n.srv.registry.evict(labelOf(string(body)), n.srv.cfg.now()); !here && !away {
			status = http.StatusNotFound
			break
		}
		n.shareEvictions()
	case what == controlComing:
		var all comingTunnels
		if json.Unmarshal(body, &all) != nil {
			status = http.StatusBadRequest
			break
		}
		n.coming.come(all.Labels)
		for _, l := range all.Labels {
			n.srv.registry.stir(l)
		}
	default: // of a later version
		status = http.StatusNotImplemented
	}
	w.WriteHeader(status)
}

// NodeTransport returns an [http.RoundTripper] to the Admin handler of another node of the
// cluster. Its errors say that there is no such node, or that it cannot be reached.
func (s *Server) NodeTransport(name string) http.RoundTripper { return &nodeTransport{s.cluster, name} }

type nodeTransport struct {
	node *node
	name string
}

func (t *nodeTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.node != nil {
		for _, p := range t.node.others() {
			if p.of.Name == t.name {
				return p.roundTrip(req, controlAdmin)
			}
		}
	}
	if req.Body != nil {
		req.Body.Close()
	}
	return nil, fmt.Errorf("server: the cluster has no other node %q", t.name)
}

// NodeOf returns the name of the node that has the tunnel with this id, as far as is known;
// it is empty if none has.
func (s *Server) NodeOf(ctx context.Context, id string) string {
	switch {
	case s.cluster == nil:
		return ""
	case s.registry.has(labelOf(id)):
		return s.cluster.member.Name()
	}
	h, err := s.cluster.member.Find(ctx, string(labelOf(id)))
	if err != nil {
		return ""
	}
	return h.Node.Name
}

// has reports whether l has a session here that serves.
func (g *registry) has(l label) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	tun := g.tunnels[l]
	return tun != nil && tun.active != nil
}
