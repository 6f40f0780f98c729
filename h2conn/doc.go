// Package h2conn runs HTTP/2, in either direction, over one websocket.
//
// The direction in which the websocket was dialled and the direction in which
// HTTP requests travel are independent. In a tunnel they are opposite:
//
//	      dials the websocket ──────────────▶ accepts it
//	tunnel client                              service
//	      answers requests   ◀────────────── asks
//	      [Serve]                              [NewTransport]
//
// [Dial] and [Accept] are the two ways to get a [Conn]; [NewTransport] and
// [Serve] are the two ends of HTTP/2, called the asking end and the answering
// end throughout. The package knows nothing of ids, tokens or logging.
//
// # Ownership
//
// NewTransport and Serve take the Conn over: they alone read from it, and it
// is closed when they are done. The owner may at any time use its concurrent
// methods: SendControl, SetCloseReason, CloseWith, Done and Err. Call OnControl
// before either of the two.
//
// # Bytes and messages
//
// Binary websocket messages are a byte stream; their boundaries mean nothing.
// Text messages are control messages and reach OnControl, out of band: they
// take no stream, and nothing that travels in a stream can forge one.
//
// # Upgrades
//
// A request with an Upgrade header crosses as an extended CONNECT stream (RFC
// 8441) where both ends can do that, and otherwise as an ordinary request with
// the private header [HeaderUpgrade]. A handler behind Serve sees an ordinary
// HTTP/1.1 upgrade request and a ResponseWriter that is an [http.Hijacker] in
// both cases; the caller of RoundTrip gets a 101 response whose Body is an
// [io.ReadWriteCloser]. Bytes after the handshake are relayed, never parsed.
//
// golang.org/x/net/http2 has only an environment variable to switch extended
// CONNECT on; this package does it in code, see extended_connect.go. With Go 1.27
// or later that needs the build tag http2legacy.
//
// # Limits
//
// The time limits are those of a [Config] for a silent peer (PingInterval,
// PingTimeout) and WriteTimeout, given to Dial or Accept, for a peer that takes no
// bytes. A request has none: its context limits it.
package h2conn
