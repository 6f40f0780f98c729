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
// A tunnel is the lasting relation between an id and whoever serves it. A
// session is one live websocket of a tunnel: each reconnect makes a new one,
// and while the newest takes all new requests, older ones finish what they
// have. docs/architecture.md follows one request through the package.
//
// # Ownership
//
// A session belongs to the goroutine in [session.run], which alone ends it.
// The table holds pointers only; a session removes itself, and only if it is
// still the one in the table. No lock is held across network I/O anywhere.
package server
