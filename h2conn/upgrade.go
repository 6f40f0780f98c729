package h2conn

import (
	"io"
	"net/http"
)

// The two forms of an upgrade inside a tunnel. What each end does with them is
// in transport_upgrade.go and serve_upgrade.go; docs/protocol.md has the bytes.
//
//	extended CONNECT (RFC 8441)        fallback
//	:method   CONNECT                  :method   as requested
//	:protocol websocket                x-websocktunnel-upgrade: websocket
//	no sec-websocket-key/-accept       both as sent by viewer and target
//	2xx: switched                      2xx with x-websocktunnel-upgrade: switched
//	anything else: refused             anything else: refused
//
// In both, the stream's DATA is what follows the handshake, in either
// direction, and END_STREAM is the half-close. The answering end cannot send
// END_STREAM early: it sends the control message upgrade_end (transport_upgraded.go).

// The names of the two forms, for [UpgradeForm].
const (
	ExtendedForm = "extended-connect"
	FallbackForm = "fallback"
)

// UpgradeForm returns the form in which the request crossed that resp answers, where it
// is of [Transport.RoundTrip] and the request was an upgrade. Otherwise it returns "".
func UpgradeForm(resp *http.Response) string {
	switch b := resp.Body.(type) {
	case *upgradedStream:
		return b.form
	case refusedStream:
		return b.form
	}
	return ""
}

// refusedStream is the body of a refusal, to which nothing can be written.
type refusedStream struct {
	io.ReadCloser
	form string
}

// protocolHeader is where x/net keeps the :protocol pseudo-header of an
// extended CONNECT request.
const protocolHeader = ":protocol"

// isExtendedConnect reports whether r, as an HTTP/2 server got it, is an
// extended CONNECT request, and for what.
func isExtendedConnect(r *http.Request) (protocol string, ok bool) {
	if r.Method != http.MethodConnect {
		return "", false
	}
	vv := r.Header[protocolHeader]
	if len(vv) != 1 || vv[0] == "" {
		return "", false
	}
	return vv[0], true
}

func isSuccess(status int) bool { return 200 <= status && status <= 299 }
