package tunnelclient

import "time"

// Phase is what a [Client] is doing.
type Phase int

const (
	// PhaseConnecting: it asks for a token and dials.
	PhaseConnecting Phase = iota + 1
	// PhaseConnected: a session serves viewers. It follows itself when a new
	// session has taken the place of one that still served, or with Err set
	// when something went wrong beside the session.
	PhaseConnected
	// PhaseDraining: the session takes no new requests for much longer,
	// because the service asked for a new session or because Serve's context
	// has ended. Requests in flight go on.
	PhaseDraining
	// PhaseWaiting: there is no session; the next attempt is at State.Next.
	PhaseWaiting
)

// String returns the phase in one lower-case word.
func (p Phase) String() string {
	switch p {
	case PhaseConnecting:
		return "connecting"
	case PhaseConnected:
		return "connected"
	case PhaseDraining:
		return "draining"
	case PhaseWaiting:
		return "waiting"
	}
	return "unknown"
}

// State is a moment in the life of a tunnel, see Config.OnStateChange.
type State struct {
	Phase Phase

	// URL is what viewers use. Empty before the first session.
	URL string

	// Reason says in a few words what led to this state. It may be empty.
	Reason string

	// Err is why the last attempt or session ended, or what went wrong while
	// connected: a fresh token that did not come into force, or an attempt to
	// follow a change of the network. It is a *[SessionError] if a session has
	// ended, a *[RefusedError] if the service refused the handshake, and may be
	// nil.
	Err error

	// Next is when the Client will dial, if it waits for that; otherwise zero.
	Next time.Time
}
