package server

import "time"

// outcome is what has happened in an exchange, complete when it is over. It says
// why in RFC 9209's types, where package target's keeps the error itself.
type outcome struct {
	// start is when the request's headers were there, begun when the final
	// answer's headers went to the viewer (zero: none did), end when all was over.
	start, begun, end time.Time

	// proto is what the viewer speaks, such as "HTTP/2.0". Empty for Go code.
	proto string

	// status is the final one; 0 if there was none. 101 is an upgrade.
	status int

	// received and sent are the bytes of the bodies, as the tunnel took them from
	// the viewer and the viewer from the service. After an upgrade they are those
	// of its two directions.
	received, sent int64

	// failure is the answer that the service made itself, or nil.
	failure *failure

	// broken says that the answer was broken off, or never came because the
	// viewer had gone.
	broken bool

	// tunnelBroke is why the tunnel's side broke off, or nil: it did not.
	tunnelBroke *failure
}

// hop is a party of an exchange: the service can tell four of them apart, package
// target two.
type hop string

const (
	hopNone         hop = ""
	hopViewer       hop = "viewer"
	hopService      hop = "service"
	hopTunnelClient hop = "client"
	hopTarget       hop = "target"
)

// reason returns why there is no whole answer of the target, or nil if there is one.
func (o *outcome) reason() *failure {
	switch {
	case o.failure != nil:
		return o.failure
	case o.tunnelBroke != nil:
		return o.tunnelBroke
	case o.broken:
		return failViewerLeft
	}
	return nil
}

// failed returns the party because of which there is no whole answer of the
// target, and why, as an RFC 9209 error type. Both are empty if there is one.
func (o *outcome) failed() (by hop, kind string) {
	if f := o.reason(); f != nil {
		return f.hop, f.kind
	}
	return hopNone, ""
}
