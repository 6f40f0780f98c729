package target

import "time"

// outcome is what became of one exchange. finish completes it. It keeps the error
// of a fault, where package server's has RFC 9209's type.
type outcome struct {
	// status is that of the answer which the viewer was sent: 101 for an upgrade,
	// 502 or 504 if the target gave none. 0 means that the viewer had left.
	status int

	// fromViewer and toViewer count bytes of bodies: what was read of the
	// request's, and written of the answer's. After an upgrade they count the
	// bytes behind the header, which then belong to no body.
	fromViewer, toViewer int64

	// began and ended are always set. connected is when the request got a
	// connection to the target, new or idle, the last one if it was made again;
	// answered is when the header of the target's answer was here. Both are zero
	// if that did not happen.
	began, connected, answered, ended time.Time

	// protocol is what was spoken with the target: "HTTP/1.1", "HTTP/2.0", or
	// "HTTP/1.0" if the answer says so. Empty means that there was no connection.
	protocol string

	// upgrade is the protocol that the target has switched to, in its own
	// spelling. Empty means that there was no upgrade.
	upgrade string

	// fault is the first thing that went wrong. Nil means that both messages
	// were passed on whole, with any status.
	fault *fault
}

// failure returns the error type of RFC 9209 of a fault of the target, or "".
func (o *outcome) failure() string {
	if o.fault == nil || o.fault.hop != hopTarget {
		return ""
	}
	return classify(o.fault.err).kind
}

// fault says on which side an exchange went wrong, and how.
type fault struct {
	hop hop
	err error // as net/http has it; it may quote the request, see internal/redact
}

// hop is a side of the exchange. Behind the tunnel the service and the viewer
// cannot be told apart, so there are two, where package server has four.
type hop string

const (
	hopViewer hop = "viewer" // the viewer, or the tunnel to it
	hopTarget hop = "target"
)
