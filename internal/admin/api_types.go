package admin

import (
	"slices"
	"time"

	"github.com/websocktunnel/websocktunnel/server"
)

// The types of the API. The tag doc has a field's description for the OpenAPI
// document. Times are RFC 3339; durations are seconds.

// Tunnel is a tunnel that takes requests, or has done so within the last ten minutes.
type Tunnel struct {
	ID               string     `json:"id" doc:"The client id."`
	State            string     `json:"state" doc:"connected: it takes requests. gone: it takes none, but has done so within the last ten minutes; the other fields then tell of its last session."`
	Reconnects       int        `json:"reconnects" doc:"How often the tunnel has connected anew within the last ten minutes. Many are a sign of a client that flaps."`
	LastEndAt        *time.Time `json:"last_end_at" doc:"When the session before this one stopped taking requests, or this one, if the tunnel has gone; null: there was none."`
	LastEndReason    string     `json:"last_end_reason" doc:"Why that session ended, in one word as in docs/log.md, such as lost or stopped; or empty."`
	RemoteAddr       string     `json:"remote_addr" doc:"Address of the tunnel client's connection."`
	ConnectedAt      time.Time  `json:"connected_at" doc:"When the active session registered."`
	TokenExpiresAt   time.Time  `json:"token_expires_at" doc:"When the token in force expires."`
	Connections      int        `json:"connections" doc:"Websockets that serve the tunnel: the active session, and those that its client has opened beside it (wst-client --connections)."`
	InFlight         int        `json:"in_flight" doc:"Requests that the tunnel carries."`
	ReceivedBytes    int64      `json:"received_bytes" doc:"Bytes of bodies and upgraded connections from viewers, by the active session and those that have joined it."`
	SentBytes        int64      `json:"sent_bytes" doc:"Bytes of bodies and upgraded connections to viewers, by the active session and those that have joined it."`
	RoundTripSeconds float64    `json:"round_trip_seconds" doc:"Time that the tunnel client took to answer the last ping."`
	Replacements     uint64     `json:"replacements" doc:"How often a session has replaced one that was active, since the tunnel came up. Many are a sign of two tunnel clients with one id."`
	ReplacedAddr     string     `json:"replaced_addr" doc:"Address of the last one that was replaced, or empty."`
	FailedRequests   uint64     `json:"failed_requests" doc:"Requests without a whole answer because of the service, the tunnel client or the target, since the tunnel came up."`
	ExtendedConnect  bool       `json:"extended_connect" doc:"Whether upgrades travel as extended CONNECT (RFC 8441) rather than in the fallback form."`
}

// TunnelList is a page of tunnels.
type TunnelList struct {
	Tunnels []Tunnel `json:"tunnels" doc:"The page."`
	Total   int      `json:"total" doc:"How many tunnels match, on all pages."`
	Offset  int      `json:"offset" doc:"How many come before this page."`
	Limit   int      `json:"limit" doc:"How many a page has at most."`
}

// TunnelDetail is a tunnel with its sessions and failures.
type TunnelDetail struct {
	ID       string    `json:"id" doc:"The client id."`
	Node     string    `json:"node" doc:"The node of the cluster that has it; empty if the service is alone."`
	Active   *Tunnel   `json:"active" doc:"The session that takes requests; null: none does."`
	Gone     *Tunnel   `json:"gone" doc:"What the tunnel was like when it stopped taking requests, if it has within the last ten minutes and is not back; otherwise null."`
	Blocked  bool      `json:"blocked" doc:"Whether an operator has evicted the tunnel, and tokens of it are blocked still."`
	Sessions []Session `json:"sessions" doc:"The live sessions, the oldest first and the active one last."`
	Failures []Failure `json:"failures" doc:"The last requests that failed, the newest first, at most ten."`
}

// Session is one live websocket of a tunnel.
type Session struct {
	RemoteAddr  string    `json:"remote_addr" doc:"Address of the tunnel client's connection."`
	ConnectedAt time.Time `json:"connected_at" doc:"When it registered."`
	State       string    `json:"state" doc:"active, leaving (asked to connect elsewhere), draining (takes no new requests) or closing."`
	InFlight    int       `json:"in_flight" doc:"Requests that it carries."`
}

// Failure says why there was no whole answer to a request.
type Failure struct {
	Time      time.Time `json:"time" doc:"When the request ended."`
	Status    int       `json:"status" doc:"What the viewer got; 0: nothing."`
	Hop       string    `json:"hop" doc:"The party that is the reason: service, client (the tunnel client) or target."`
	Error     string    `json:"error" doc:"Error type of RFC 9209, such as connection_refused."`
	ErrorCode string    `json:"error_code" doc:"One of the codes in docs/errors.md, such as WT-TARGET-REFUSED."`
	RequestID string    `json:"request_id" doc:"The name of the request in the logs of both ends and on the error page."`
}

// Status is the service as a whole.
type Status struct {
	StartedAt      time.Time      `json:"started_at" doc:"When the process started."`
	Draining       bool           `json:"draining" doc:"Whether the service shuts down."`
	Tunnels        int            `json:"tunnels" doc:"Tunnels that take requests."`
	MaxTunnels     int            `json:"max_tunnels" doc:"Highest number of tunnels; 0: no limit."`
	Flapping       int            `json:"flapping" doc:"Tunnels that have connected anew five times or more within the last ten minutes, whether they take requests now or not."`
	Sessions       map[string]int `json:"sessions" doc:"Live sessions by state."`
	InFlight       int            `json:"in_flight" doc:"Requests that the tunnels carry."`
	Slots          int            `json:"slots" doc:"Requests that all tunnels together may carry at a time."`
	Waiting        int            `json:"waiting" doc:"Requests that wait because their tunnel is at its limit."`
	Connections    int            `json:"connections" doc:"Open connections of viewers."`
	MaxConnections int            `json:"max_connections" doc:"Highest number of those; 0: no limit."`
	HeldBytes      int64          `json:"held_bytes" doc:"Bytes of memory that viewers and tunnel clients make the service hold, by its own account."`
	MaxHeldBytes   int64          `json:"max_held_bytes" doc:"Highest number of those; 0: no limit."`
	ReceivedBytes  int64          `json:"received_bytes" doc:"Bytes of bodies and upgraded connections from viewers so far."`
	SentBytes      int64          `json:"sent_bytes" doc:"Bytes of bodies and upgraded connections to viewers so far."`
}

// Evicted are the ids whose evicted tokens are blocked.
type Evicted struct {
	IDs []string `json:"ids" doc:"In order."`
}

// Done says what a change has changed.
type Done struct {
	ID   string `json:"id,omitempty" doc:"The client id, where it is about one."`
	Done string `json:"done" doc:"evicted, unblocked or draining."`
}

// ConfigList is the effective configuration.
type ConfigList struct {
	Settings []Setting `json:"settings" doc:"One for each variable, in the order of the help."`
}

// Setting is one variable of the configuration.
type Setting struct {
	Name   string `json:"name" doc:"Name of the variable."`
	Value  string `json:"value" doc:"What it is set to; of a secret a mask, and of a default its description."`
	Source string `json:"source" doc:"default, environment, flag, or file with its name, and with the line if it is the configuration file."`
	Secret bool   `json:"secret" doc:"Whether the value is masked."`
}

// Reloaded says what reading the configuration again has led to.
type Reloaded struct {
	Changed []string `json:"changed" doc:"Variables whose new values are in force."`
	Restart []string `json:"restart" doc:"Variables that have new values too, which need a restart of the service."`
}

// Problem is an error (RFC 9457).
type Problem struct {
	Status int      `json:"status" doc:"The HTTP status."`
	Title  string   `json:"title" doc:"The status in words."`
	Detail string   `json:"detail" doc:"What is wrong, in one sentence."`
	Faults []string `json:"faults,omitempty" doc:"All faults of the configuration, where it has some."`
}

func newTunnel(t server.TunnelInfo) Tunnel {
	var end *time.Time
	if !t.LastEnd.IsZero() {
		end = &t.LastEnd
	}
	return Tunnel{
		ID: t.ID, State: stateOf(t), Reconnects: t.Reconnects, LastEndAt: end, LastEndReason: t.LastEndReason,
		RemoteAddr: t.RemoteAddr, ConnectedAt: t.ConnectedAt, TokenExpiresAt: t.TokenExpires,
		Connections: t.Connections, InFlight: t.InFlight, ReceivedBytes: t.Received, SentBytes: t.Sent, RoundTripSeconds: t.RoundTrip.Seconds(),
		Replacements: t.Replacements, ReplacedAddr: t.ReplacedAddr, FailedRequests: t.Failed, ExtendedConnect: t.ExtendedConnect,
	}
}

// tunnel describes the one with this id, or returns false.
func (a *Admin) tunnel(id string) (TunnelDetail, bool) {
	d, ok := a.cfg.Service.Tunnel(id)
	if !ok {
		return TunnelDetail{}, false
	}
	t := TunnelDetail{ID: d.ID, Node: a.self(), Blocked: slices.Contains(a.cfg.Service.Evicted(), d.ID), Sessions: []Session{}, Failures: []Failure{}}
	if d.Active != nil {
		active := newTunnel(*d.Active)
		t.Active = &active
	}
	if d.Gone != nil {
		gone := newTunnel(*d.Gone)
		t.Gone = &gone
	}
	for _, s := range d.Sessions {
		t.Sessions = append(t.Sessions, Session(s))
	}
	for _, f := range d.Failures {
		t.Failures = append(t.Failures, Failure(f))
	}
	return t, true
}

func (a *Admin) status() Status {
	st := a.cfg.Service.Status()
	return Status{
		StartedAt: a.started, Draining: st.Draining,
		Tunnels: st.Tunnels, MaxTunnels: st.MaxTunnels, Flapping: st.Flapping, Sessions: st.Sessions,
		InFlight: st.InFlight, Slots: st.Slots, Waiting: st.Waiting,
		Connections: st.Connections, MaxConnections: st.MaxConnections,
		HeldBytes: st.Held, MaxHeldBytes: st.MaxHeld,
		ReceivedBytes: st.Received, SentBytes: st.Sent,
	}
}
