// Package server is the service of websocktunnel: the public program to which
// tunnel clients connect and from which viewers are served.
//
//	viewer ── HTTP ──▶ [Server] ══ HTTP/2 in a websocket ══▶ tunnel client ──▶ target
//	                       ▲                                      │
//	                       └────── dials, with a signed token ────┘
//
// A [Server] is an [http.Handler] for both kinds of peers. Serve runs it on a
// listener with the right protocols and limits; mounting it in one's own
// [http.Server] works too. RoundTripper gives Go code in the same process
// direct access to a tunnel.
//
// # Words
//
// A tunnel is the lasting relation between an id and the client that serves it. A
// session is one live websocket of a tunnel: each reconnect makes a new one,
// and while the newest takes all new requests, older ones finish what they
// have. Further websockets of the same client may serve beside it. docs/architecture.md follows one request through the package.
//
// # Ownership
//
// A registration owns its session while that starts, and [session.run] from then on,
// which has a goroutine only while something is due. The owner alone closes the
// connection; anyone else asks for that. session_state.go has the states of a session.
//
// The [registry] knows which ids have which sessions. The order of locks is the
// registry's, then a session's, then its queue's or connection's; each may be
// taken without those before it. Neither the registry nor a session waits for the
// network with its lock held.
//
// An [exchange] belongs to the goroutine of its handler. Other goroutines touch it
// (x/net reading the request, a session's that brings interim answers, timers, the
// one that keeps a body for another try) through requestBody, answerBody and
// viewerWriter, which have locks of their own. The memory budget's calls exchange.cut,
// which reads what the constructor has set.
// No lock is held across network I/O, but for the [sync.Once] of answerBody.Close and
// of exchange.finish: the first call ends before a second one returns. Only the
// exchange's own request ever waits for them.
package server
