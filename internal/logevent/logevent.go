// Package logevent names the events in the log. People have alerts on them: a name
// stays. docs/log.md is made of the comments here, which say when each event comes and
// which fields stand beside it.
package logevent

// Field is the field of a line that has the name of its event.
const Field = "event"

// Events in the life of a tunnel.
const (
	// A session became the active one of its id.
	//
	// Fields: `id`, `remote`, `url`, `token_iat`, `token_exp`, `extended_connect`; if the
	// tunnel had a session before, now or within the last ten minutes: `after`, the `reason`
	// of its end, and `reconnects`, how often the tunnel has connected anew within that time;
	// if it replaced an active one: `replaces`, the address of that one, and `replacements`,
	// how often that happened since the tunnel came up.
	Registered = "registered"

	// A further websocket of a tunnel client serves beside the active session
	// (`wst-client --connections`).
	//
	// Fields: `id`, `remote`, `joins`, the address of that session, `connections`, how many
	// websockets the tunnel has now, `token_iat`, `token_exp`.
	Joined = "joined"

	// A registration got 400, 401, 409, 426, 429 or 503.
	//
	// Fields: `error_code` ([errors.md](errors.md)), `status`, `reason`, `remote`; `id` if it
	// is valid; `token_iat`, `token_exp` if the token has a valid signature and has not
	// expired.
	Refused = "refused"

	// The service accepted a registration, but no session followed.
	//
	// Fields: `error_code`, `id`, `remote`, `reason`, `token_iat`, `token_exp`.
	Failed = "failed"

	// The service left out lines about registrations.
	//
	// Fields: `count`, how many; `lines`, how many of which kind, such as
	// `{"refused_401":950,"refused_429":4050}`.
	Suppressed = "suppressed"

	// Clients that normalise URLs ask for another id than this one, by path. It follows
	// `registered`.
	//
	// Fields: `id`, `remote`, `normal`, the id that they ask for.
	OddID = "odd_id"

	// A fresh token is in force (debug).
	//
	// Fields: `id`, `remote`, `expires`.
	TokenRefreshed = "token_refreshed"

	// A fresh token was refused; the old one stays in force.
	//
	// Fields: `id`, `remote`, `error`, `error_code`.
	TokenRefused = "token_refused"

	// The token expired and no fresh one came: the session finishes what it has.
	//
	// Fields: `id`, `remote`.
	Expired = "expired"

	// The tunnel client asked for the session's end (debug).
	//
	// Fields: `id`, `remote`.
	ClientLeaves = "client_leaves"

	// The tunnel client broke a rule of the protocol, and the session ends.
	//
	// Fields: `id`, `remote`, `error`.
	Violation = "violation"

	// A control message could not be sent, because the connection is gone (debug).
	//
	// Fields: `id`, `remote`, `error`, `type`.
	ControlUnsent = "control_not_sent"

	// An operator evicted a tunnel.
	//
	// Fields: `id`.
	Evicted = "evicted"

	// An operator let an evicted tunnel in again.
	//
	// Fields: `id`.
	Unblocked = "unblocked"

	// A session ended.
	//
	// Fields: `id`, `remote`, `reason`: `replaced`, `stopped` (by the tunnel client), `lost`
	// (the connection broke), `draining`, `token_expired`, `evicted`, `protocol_violation` or
	// `overloaded`; `cause`, the same in more words; `lived`, for how long it was there.
	Ended = "ended"

	// A request got no answer of the target (debug; the access log has them all).
	//
	// Fields: `id`, `request_id`, `error_code`, `status`, `error`.
	RequestFailed = "request_failed"
)

// Events in the life of the service.
const (
	// The configuration is read again, or a file opened again.
	//
	// Fields: `changed`, `restart` or `faults`; `error`.
	Reload = "reload"

	// The heartbeat fails from now on, and the tunnels stay for the `DRAIN_DELAY`.
	//
	// Fields: `delay`.
	DrainDelay = "drain_delay"

	// The tunnels are asked to connect elsewhere.
	//
	// Fields: `tunnels`.
	Draining = "draining"

	// Lines were lost here because nobody took them in time.
	//
	// Fields: `dropped_lines`.
	LogDropped = "log_dropped"

	// Spans are lost on the way to their collector.
	//
	// Fields: `error`.
	Tracing = "tracing"

	// An operator has changed something.
	//
	// Fields: `action`, `remote`, `id`.
	Admin = "admin"

	// A wrong token on the admin listener.
	//
	// Fields: `remote`.
	AdminRefused = "admin_refused"

	// A line of [the access log](configuration.md#the-access-log) in JSON.
	//
	// Fields: see there.
	Request = "request"

	// A node of the cluster has come, drains, or has not said for 10 s that it is alive.
	//
	// Fields: `other`, its name; `addr`, `state`: `up`, `draining` or `suspect`.
	NodeChanged = "node_changed"

	// Another process has the name of this node.
	//
	// Fields: `other`, the name; `addr`.
	NodeTwice = "node_twice"

	// A node could not be told who is evicted (debug); it will be when there is a connection
	// to it.
	//
	// Fields: `other`, its name; `error`.
	NodeDeaf = "node_deaf"

	// The directory of the cluster does not answer.
	//
	// Fields: `error`.
	DirectoryAway = "directory_away"

	// The directory of the cluster answers again.
	//
	// Fields: none.
	DirectoryBack = "directory_back"
)
