package admin

import (
	"net/http"

	"github.com/websocktunnel/websocktunnel/server"
)

// route is one operation of the API. The OpenAPI document is made of them.
type route struct {
	method, path string
	name         string // operationId
	summary      string
	query        []parameter
	answers      any // an example of the type of a good answer
	status       int // of that; zero: 200
	fails        []int
	serve        http.HandlerFunc
}

// parameter is one of the query.
type parameter struct{ name, kind, text string }

// routes returns the API.
func (a *Admin) routes() []route {
	return []route{
		{
			method: "GET", path: "/api/v1/tunnels", name: "listTunnels", summary: "Tunnels that take requests, and those that have gone within the last ten minutes, page by page.",
			query: []parameter{
				{"search", "string", "What the id (without case) or the address has to contain."},
				{"state", "string", "connected or gone: only tunnels of that state. Default: both."},
				{"sort", "string", "Field to sort by, one of those of a tunnel but replaced_addr, last_end_reason and extended_connect; with - before it, the other way round. Default: id."},
				{"offset", "integer", "How many tunnels to leave out at the beginning. Default: 0."},
				{"limit", "integer", "How many tunnels to return at most, from 1 to 1000. Default: 50."},
			},
			answers: TunnelList{}, fails: []int{400}, serve: a.listTunnels,
		},
		{
			method: "GET", path: "/api/v1/tunnels/{id}", name: "getTunnel", summary: "One tunnel with its sessions and last failures. In the path, the id is percent-encoded once more: a%2Fb as a%252Fb.",
			answers: TunnelDetail{}, fails: []int{404}, serve: a.getTunnel,
		},
		{
			method: "POST", path: "/api/v1/tunnels/{id}/evict", name: "evictTunnel", summary: "End a tunnel at once and block its token, and all older ones of the id, until the token expires or is unblocked. A tunnel that has gone within the last ten minutes can be evicted too.",
			answers: Done{}, fails: []int{404}, serve: a.evict,
		},
		{
			method: "POST", path: "/api/v1/tunnels/{id}/unblock", name: "unblockTunnel", summary: "Let the tokens of an evicted tunnel in again.",
			answers: Done{}, fails: []int{404}, serve: a.unblock,
		},
		{
			method: "GET", path: "/api/v1/evicted", name: "listEvicted", summary: "Ids whose evicted tokens are blocked.",
			answers: Evicted{}, serve: a.getEvicted,
		},
		{
			method: "GET", path: "/api/v1/nodes", name: "listNodes", summary: "The nodes of the cluster, and the directory that they share.",
			answers: NodeList{}, serve: a.getNodes,
		},
		{
			method: "GET", path: "/api/v1/status", name: "getStatus", summary: "The service as a whole.",
			answers: Status{}, serve: a.getStatus,
		},
		{
			method: "POST", path: "/api/v1/drain", name: "drain", summary: "Shut the service down as SIGTERM does: requests in flight finish, tunnels go elsewhere, and the process ends.",
			answers: Done{}, status: 202, fails: []int{501}, serve: a.drain,
		},
		{
			method: "POST", path: "/api/v1/reload", name: "reload", summary: "Read the configuration file and the files of secrets and certificates again, as SIGHUP does. What needs a restart is named. If there is a fault, nothing changes.",
			answers: Reloaded{}, fails: []int{422, 501}, serve: a.reload,
		},
		{
			method: "GET", path: "/api/v1/version", name: "getVersion", summary: "The build.",
			answers: server.Version{}, serve: a.getVersion,
		},
		{
			method: "GET", path: "/api/v1/config", name: "getConfig", summary: "The effective configuration, with secrets masked.",
			answers: ConfigList{}, serve: a.getConfig,
		},
		{
			method: "GET", path: "/api/v1/openapi.json", name: "getOpenAPI", summary: "This document.",
			answers: map[string]any{}, serve: a.getOpenAPI,
		},
	}
}
