// Package target sends requests to an HTTP server and changes nothing on the way:
// it is the tunnel client's [http.Handler] for a server that runs beside it.
//
//	viewer ──▶ service ──▶ tunnel client ──▶ [Proxy] ──▶ target
//
// It works behind any http.Server. Behind a tunnel a few things come in addition:
// what the service says of the viewer is passed on, a target that fails is reported
// in a header that the service understands, and an upgraded connection that breaks
// at one end breaks at the other.
//
// # Ownership
//
// A [Proxy] starts no goroutine that outlives its request, except those of
// net/http for idle connections, which [Proxy.CloseIdleConnections] ends.
package target
