package admin

import (
	"context"
	"net/http"
	"net/http/httputil"

	"github.com/websocktunnel/websocktunnel/cluster"
	"github.com/websocktunnel/websocktunnel/server"
)

// Cluster is what the listener shows of several nodes: a [*server.Server].
type Cluster interface {
	// Cluster returns what this node knows, or false if the service is alone.
	Cluster() (cluster.Status, bool)
	// Nodes returns the nodes, this one first.
	Nodes() []server.NodeInfo
	// NodeOf returns the name of the node that has a tunnel, or an empty one.
	NodeOf(ctx context.Context, id string) string
	// NodeTransport leads to the handler that [Admin.ForNodes] returns at another node.
	NodeTransport(name string) http.RoundTripper
}

var _ Cluster = (*server.Server)(nil)

// Node is a node of the cluster as the one that was asked sees it.
type Node struct {
	Name             string  `json:"name" doc:"Its name."`
	Self             bool    `json:"self" doc:"Whether it is the node that was asked."`
	Addr             string  `json:"addr" doc:"Where other nodes reach it."`
	Version          string  `json:"version" doc:"Its build."`
	State            string  `json:"state" doc:"up, draining, or suspect: it has not said for ten seconds that it is alive."`
	Tunnels          int     `json:"tunnels" doc:"How many it serves, as it said last."`
	Links            int     `json:"links" doc:"Connections to it."`
	InFlight         int     `json:"in_flight" doc:"Requests on them."`
	RoundTripSeconds float64 `json:"round_trip_seconds" doc:"Time that the last ping to it took."`
	ReceivedBytes    int64   `json:"received_bytes" doc:"Bytes of bodies and upgraded connections that went there, from viewers of the node that was asked."`
	SentBytes        int64   `json:"sent_bytes" doc:"Bytes that came from there, to those."`
	Fault            string  `json:"fault" doc:"Why the last try to connect to it failed, or empty."`
}

// NodeList are the nodes, and the directory that they share.
type NodeList struct {
	Nodes     []Node `json:"nodes" doc:"The nodes, the one that was asked first. Empty: the service is alone."`
	Reachable bool   `json:"directory_reachable" doc:"Whether the directory answers."`
	Whole     bool   `json:"directory_whole" doc:"Whether an id that the directory does not have is absent for certain."`
	Pending   int    `json:"pending" doc:"Ids of which the directory has not heard the last news of this node."`
	Forged    uint64 `json:"forged" doc:"Entries without a valid signature so far: of a node with another secret, or of somebody who should not write there."`
}

func (a *Admin) nodes() NodeList {
	list := NodeList{Nodes: []Node{}}
	if a.cfg.Cluster == nil {
		return list
	}
	st, ok := a.cfg.Cluster.Cluster()
	if !ok {
		return list
	}
	list.Reachable, list.Whole, list.Pending, list.Forged = st.Reachable, st.Whole, st.Pending, st.Forged
	for _, n := range a.cfg.Cluster.Nodes() {
		list.Nodes = append(list.Nodes, Node{
			Name: n.Name, Self: n.Self, Addr: n.Addr, Version: n.Version, State: string(n.Seen), Tunnels: n.Tunnels,
			Links: n.Links, InFlight: n.InFlight, RoundTripSeconds: n.RoundTrip.Seconds(),
			ReceivedBytes: n.Received, SentBytes: n.Sent, Fault: n.Fault,
		})
	}
	return list
}

func (a *Admin) getNodes(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, a.nodes()) }

// ForNodes returns the handler for what operators ask of this node at another one, which
// has let them in: the API alone.
func (a *Admin) ForNodes() http.Handler {
	mux := http.NewServeMux()
	for _, r := range a.routes() {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			r.serve(w, req.WithContext(context.WithValue(req.Context(), relayed{}, true)))
		})
	}
	return mux
}

// relayed is the context key of requests that another node has sent: they go no further.
type relayed struct{}

// anywhere returns h for a request that may name another node, which answers it then.
func (a *Admin) anywhere(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		name := q.Get("node")
		switch {
		case !q.Has("node"):
			h(w, r)
		case a.self() != "" && a.self() == name:
			q.Del("node")
			own := r.Clone(r.Context())
			own.URL.RawQuery = q.Encode()
			h(w, own)
		default:
			a.askNode(w, r, name)
		}
	}
}

// self returns the name of this node, "" if the service is alone.
func (a *Admin) self() string {
	if a.cfg.Cluster == nil {
		return ""
	}
	st, _ := a.cfg.Cluster.Cluster()
	return st.Name
}

// askNode has another node answer r.
func (a *Admin) askNode(w http.ResponseWriter, r *http.Request, name string) {
	if a.cfg.Cluster == nil {
		problem(w, http.StatusNotFound, "there are no other nodes: the service is alone")
		return
	}
	proxy := httputil.ReverseProxy{
		Transport: a.cfg.Cluster.NodeTransport(name),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "node", "node"
			q := pr.Out.URL.Query()
			q.Del("node")
			pr.Out.URL.RawQuery = q.Encode()
			pr.Out.Header.Del("Authorization") // for this listener alone
			pr.Out.Header.Del("Cookie")
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			problem(w, http.StatusBadGateway, "the node cannot be asked: "+err.Error())
		},
	}
	proxy.ServeHTTP(w, r)
}

// elsewhere answers a request for a tunnel that is not here, if another node has it, and
// reports whether it has.
func (a *Admin) elsewhere(w http.ResponseWriter, r *http.Request, id string) bool {
	if a.cfg.Cluster == nil || r.Context().Value(relayed{}) != nil {
		return false
	}
	name := a.cfg.Cluster.NodeOf(r.Context(), id)
	if name == "" || name == a.self() {
		return false
	}
	a.askNode(w, r, name)
	return true
}
