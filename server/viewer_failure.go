package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/websocktunnel/websocktunnel/internal/wire"
)

var (
	// ErrNoTunnel means that no tunnel client with the id is connected.
	ErrNoTunnel = errors.New("server: no tunnel client with this id is connected")

	// ErrServerClosed is returned by Serve after Shutdown or Close.
	ErrServerClosed = errors.New("server: closed")

	errNotReplaced = errors.New("server: the tunnel client has not opened the new session that it was asked for")

	errDraining = fmt.Errorf("%w: it has left because the service is shutting down", ErrNoTunnel)
)

// A failure is an answer that the service makes itself, for a viewer whose
// request it cannot carry. For Go code, and for the log, it is an error.
type failure struct {
	status int
	// kind is the RFC 9209 proxy error type.
	kind string
	// hop is the party that is the reason.
	hop hop
	// byClient says that the tunnel client has reported it.
	byClient bool
	// text is one sentence for people.
	text string
	// retryAfter, if not zero, is sent as Retry-After.
	retryAfter time.Duration
	// reserved says that the path is below one of the service's own: no
	// viewer's request, and nothing for pages of other origins.
	reserved bool
}

// answering returns f as the answer to r, which rt leads somewhere: to what is the
// service's own it is no viewer's.
func (f *failure) answering(r *http.Request, rt route) *failure {
	if f.reserved || !wire.Reserved(rt.id) && !isRegistration(r, rt) {
		return f
	}
	own := *f
	own.reserved = true
	return &own
}

func (f *failure) Error() string {
	return "server: " + strings.ToLower(f.text[:1]) + strings.TrimSuffix(f.text[1:], ".")
}

// serviceName is the service's in Proxy-Status, and how its tunnel clients' begins.
const serviceName = "websocktunnel"

// reporter returns the name in Proxy-Status of the proxy that found the failure.
func (f *failure) reporter() string {
	if f.byClient {
		return serviceName + "-client"
	}
	return serviceName
}

// proxyStatus returns the value of Proxy-Status (RFC 9209).
func (f *failure) proxyStatus() string { return f.reporter() + "; error=" + f.kind }

var (
	failNoTunnel = &failure{
		status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "No tunnel client with this id is connected.",
	}
	failNotFound = &failure{
		status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "There is nothing here. Tunnels are at /<id>/.",
	}
	failReserved = &failure{
		status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "There is nothing here.", reserved: true,
	}
	failNoPaths = &failure{
		status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "There is nothing here. Each tunnel has a host of its own.",
	}
	failWorkerScope = &failure{
		status: http.StatusForbidden, kind: "http_request_denied", hop: hopService,
		text: "A service worker's script must be at /<id>/ or below: the scope of one at /<id> would be all tunnels.",
	}
	failConnect = &failure{
		status: http.StatusMethodNotAllowed, kind: "http_request_error", hop: hopService,
		text: "CONNECT is not possible here.",
	}
	failLeft = &failure{
		status: http.StatusServiceUnavailable, kind: "destination_unavailable", hop: hopService,
		text: "The tunnel has left because the service is shutting down.", retryAfter: 2 * time.Second,
	}
	failLoop = &failure{
		status: http.StatusLoopDetected, kind: "proxy_loop_detected", hop: hopTarget,
		text: "The request has come round: the target leads back to this service.",
	}
	failBusy = &failure{
		status: http.StatusServiceUnavailable, kind: "connection_limit_reached", hop: hopService,
		text: "The tunnel is at its request limit.", retryAfter: time.Second,
	}
	failNotReplaced = &failure{
		status: http.StatusServiceUnavailable, kind: "destination_unavailable", hop: hopTunnelClient,
		text: "The tunnel client has not opened the new session that it was asked for.", retryAfter: 2 * time.Second,
	}
	failCrowded = &failure{
		status: http.StatusServiceUnavailable, kind: "connection_limit_reached", hop: hopService,
		text: "The service is at its connection limit.", retryAfter: time.Second,
	}
	failMemory = &failure{
		status: http.StatusServiceUnavailable, kind: "connection_limit_reached", hop: hopService,
		text: "The service is short of memory.", retryAfter: time.Second,
	}
	failBroken = &failure{
		status: http.StatusBadGateway, kind: "connection_terminated", hop: hopTunnelClient,
		text: "The tunnel broke before the answer began.",
	}
	failBadAnswer = &failure{
		status: http.StatusBadGateway, kind: "http_protocol_error", hop: hopTunnelClient,
		text: "The tunnel client sent an answer that is not valid HTTP.",
	}
	failAnswerHeader = &failure{
		status: http.StatusBadGateway, kind: "http_response_header_section_size", hop: hopService,
		text: "The header of the answer is larger than this viewer takes.",
	}
	failHeaderTimeout = &failure{
		status: http.StatusGatewayTimeout, kind: "http_response_timeout", hop: hopTarget,
		text: "The target did not answer in time.",
	}
	failStalled = &failure{
		status: http.StatusBadGateway, kind: "connection_write_timeout", hop: hopTarget,
		text: "The target took no bytes of the request for too long.",
	}
	failUnencodable = &failure{
		status: http.StatusBadRequest, kind: "http_request_error", hop: hopViewer,
		text: "The request cannot be carried over HTTP/2.",
	}
	failBadBody = &failure{
		status: http.StatusBadRequest, kind: "http_request_error", hop: hopViewer,
		text: "The request's body is malformed, or broke off.",
	}
	failTooManyFields = &failure{
		status: http.StatusRequestHeaderFieldsTooLarge, kind: "http_request_error", hop: hopService,
		text: "The request has too many header fields or trailers.",
	}
	failHeaderTooLarge = &failure{
		status: http.StatusRequestHeaderFieldsTooLarge, kind: "http_request_error", hop: hopService,
		text: "The request's headers are larger than the tunnel client admits.",
	}
)
