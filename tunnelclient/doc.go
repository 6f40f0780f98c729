// Package tunnelclient exposes an [http.Handler] through a websocktunnel
// service, from a machine that nothing can connect to.
//
//	viewer ──▶ service ◀── dials ── [Client] ──▶ your handler
//	              │                     ▲            │
//	              └── HTTP/2 requests ──┘      e.g. [ProxyTo] ──▶ target
//
// A [Client] registers an id with the service, proves with a token that it
// may, and then answers the requests that viewers make of its URL. One live
// websocket to the service is a session. The tunnel outlives its sessions:
// when one breaks, or the service asks for it, the Client opens the next.
//
//	c, err := tunnelclient.New(tunnelclient.Config{
//		ServerURL: "https://tunnel.example.com",
//		ID:        "build-42",
//		Tokens:    tunnelclient.StaticToken(token),
//	})
//	if err != nil {
//		return err
//	}
//	go func() {
//		if u, err := c.URL(ctx); err == nil {
//			fmt.Println("viewers use", u)
//		}
//	}()
//	return c.Serve(ctx, handler) // until ctx ends
//
// Inside the handler everything is as on an ordinary server: streaming both
// ways, trailers, and websocket libraries that need an [http.Hijacker].
//
// # Reconnecting
//
// Serve retries for ever, except where a retry cannot help; then it returns a
// [*RefusedError] that says what to do. The first retry comes after a random 0
// to 1 s; the bound doubles up to 30 s and starts again once a session has
// lived 10 s. For 10 s after one that lived at least 2 s, no wait is longer
// than it lived. Delays that the service asks for are obeyed. A tunnel replaced
// by a newer registration of its id waits longer each time, up to 60 s, so
// that it takes over when the other goes away but hardly disturbs it before.
// [SessionError] has the rules for each way in which a session ends.
//
// Wherever it can, the Client opens a new session first and goes on serving the
// old one until its requests are done: when the service drains, when a token
// cannot be renewed over the live session, and when this machine changes its
// network, so that connections to the service come from another address than
// the session's. If the new session cannot be opened, the old one goes on.
//
// A service that vanishes without a word is noticed within 25 s: see PingInterval
// and PingTimeout of [Config]. Where the service says that it has several nodes, the
// Client opens a second session when a ping has not been answered for 1 to 1.5 s, or
// for three times what the slowest of recent answers took, and the first one goes on
// until its PingTimeout. It does so rarely if that does not help.
//
// # Several websockets
//
// With Config.Connections, further websockets serve beside a session, each with the
// same handler, while it is the newest one. They have no states of their own, open again
// when they end, and follow when it is replaced.
//
// # Tokens
//
// A [TokenSource] is asked before every attempt to connect. If it is also a
// [TokenUpdater], a fresh token goes over the live session and nothing is
// interrupted. The Client never looks into a token: its clock may be wrong.
// Tokens are never logged and never part of an error.
//
// # Ownership
//
// Serve starts every goroutine of this package, except the one that reads for
// [TokenReader], and has waited for all of them when it returns.
package tunnelclient
