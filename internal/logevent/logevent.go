// Package logevent names the events in the log. People have alerts on them: a name
// stays, and docs/log.md says for each when it comes and which fields stand beside it.
package logevent

// Field is the field of a line that has the name of its event.
const Field = "event"

// Events in the life of a tunnel.
const (
	Registered     = "registered" // also where it replaces a session
	Refused        = "refused"    // a registration
	Failed         = "failed"     // a registration that was admitted, but no session came of it
	Suppressed     = "suppressed" // lines were left out
	OddID          = "odd_id"     // one that some clients cannot ask for
	TokenRefreshed = "token_refreshed"
	TokenRefused   = "token_refused"
	Expired        = "expired"          // a token, and no fresh one came
	ClientLeaves   = "client_leaves"    // a tunnel client has asked for its session's end
	Violation      = "violation"        // of the protocol, by a tunnel client
	ControlUnsent  = "control_not_sent" // a control message
	Evicted        = "evicted"
	Unblocked      = "unblocked"
	Ended          = "ended" // a session
	RequestFailed  = "request_failed"
)

// Events in the life of the service.
const (
	Reload       = "reload"
	DrainDelay   = "drain_delay"
	Draining     = "draining"
	LogDropped   = "log_dropped"
	Tracing      = "tracing"
	Admin        = "admin"
	AdminRefused = "admin_refused"
	Request      = "request" // a line of the access log

	// In a cluster.
	NodeChanged   = "node_changed"
	NodeTwice     = "node_twice" // another process has the node's name
	NodeDeaf      = "node_deaf"  // it could not be told about evictions
	DirectoryAway = "directory_away"
	DirectoryBack = "directory_back"
)
