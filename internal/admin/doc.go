// Package admin is the listener for the operators of a service: metrics, health,
// profiles, an API and a page to see who is connected and to act on it.
//
//	browser, curl, Prometheus ── HTTP ──▶ [Admin] ──▶ [server.Server]
//
// A request passes the guard first (guard.go): the Host and Origin that it names,
// then its credentials. /healthz and /readyz alone are open to everyone. What
// changes something needs a header that pages of other origins cannot send.
//
// The status page (page.go, assets) is one HTML file, which fills itself from a
// stream of events. It shows nothing as HTML that came from elsewhere.
//
// routes.go lists all routes of the API. The OpenAPI document is made of that list
// and of the types in api_types.go, so it cannot differ from the code.
package admin
