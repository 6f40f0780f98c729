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
	code   errorCode
	status int // 0: there is none, only a broken connection
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
	// allow, if not empty, is sent as Allow.
	allow string
	// reserved says that the path is below one of the service's own: no
	// viewer's request, and nothing for pages of other origins.
	reserved bool
	// bare says that there is no body.
	bare bool
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

// proxyStatus returns the value of Proxy-Status (RFC 9209) for the request that is
// called id.
func (f *failure) proxyStatus(id string) string {
	return f.proxyError() + detailsParam + string(f.code) + ", request " + id + `"`
}

// proxyError is proxyStatus without the details.
func (f *failure) proxyError() string { return f.reporter() + "; error=" + f.kind }

const detailsParam = `; details="`

var (
	failNoTunnel = &failure{
		code: codeNoTunnel, status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "No tunnel client with this id is connected.",
	}
	failNotFound = &failure{
		code: codeNotFound, status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "There is nothing here. Tunnels are at /<id>/.",
	}
	failReserved = &failure{
		code: codeReservedPath, status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "There is nothing here.", reserved: true,
	}
	failNoPaths = &failure{
		code: codePathMode, status: http.StatusNotFound, kind: "destination_not_found", hop: hopService,
		text: "There is nothing here. Each tunnel has a host of its own.",
	}
	failWorkerScope = &failure{
		code: codeWorkerScope, status: http.StatusForbidden, kind: "http_request_denied", hop: hopService,
		text: "A service worker's script must be at /<id>/ or below: the scope of one at /<id> would be all tunnels.",
	}
	failConnect = &failure{
		code: codeConnectMethod, status: http.StatusMethodNotAllowed, kind: "http_request_error", hop: hopService,
		text: "CONNECT is not possible here.", allow: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
	}
	failLeft = &failure{
		code: codeTunnelLeft, status: http.StatusServiceUnavailable, kind: "destination_unavailable", hop: hopService,
		text: "The tunnel has left because the service is shutting down.", retryAfter: 2 * time.Second,
	}
	failLoop = &failure{
		code: codeLoop, status: http.StatusLoopDetected, kind: "proxy_loop_detected", hop: hopTarget,
		text: "The request has come round: the target leads back to this service.",
	}
	failNodeAway = &failure{
		code: codeNodeAway, status: http.StatusServiceUnavailable, kind: "destination_unavailable", hop: hopService,
		text: "The node of the service that has the tunnel cannot be reached.", retryAfter: 2 * time.Second,
	}
	failNodeLost = &failure{
		code: codeNodeLost, status: http.StatusBadGateway, kind: "connection_terminated", hop: hopService,
		text: "The node of the service that has the tunnel was lost while it had the request.",
	}
	failDirectory = &failure{
		code: codeDirectory, status: http.StatusServiceUnavailable, kind: "destination_unavailable", hop: hopService,
		text: "The service does not know at this moment which of its nodes has the tunnel.", retryAfter: 2 * time.Second,
	}
	failBusy = &failure{
		code: codeTunnelBusy, status: http.StatusServiceUnavailable, kind: "connection_limit_reached", hop: hopService,
		text: "The tunnel is at its request limit.", retryAfter: time.Second,
	}
	failNotReplaced = &failure{
		code: codeNotReplaced, status: http.StatusServiceUnavailable, kind: "destination_unavailable", hop: hopTunnelClient,
		text: "The tunnel client has not opened the new session that it was asked for.", retryAfter: 2 * time.Second,
	}
	failCrowded = &failure{
		code: codeConnectionLimit, status: http.StatusServiceUnavailable, kind: "connection_limit_reached", hop: hopService,
		text: "The service is at its connection limit.", retryAfter: time.Second,
	}
	failMemory = &failure{
		code: codeMemoryLimit, status: http.StatusServiceUnavailable, kind: "connection_limit_reached", hop: hopService,
		text: "The service is short of memory.", retryAfter: time.Second,
	}
	failBroken = &failure{
		code: codeTunnelBroke, status: http.StatusBadGateway, kind: "connection_terminated", hop: hopTunnelClient,
		text: "The tunnel broke before the answer began.",
	}
	failBadAnswer = &failure{
		code: codeBadAnswer, status: http.StatusBadGateway, kind: "http_protocol_error", hop: hopTunnelClient,
		text: "The tunnel client sent an answer that is not valid HTTP.",
	}
	failAnswerHeader = &failure{
		code: codeAnswerHeaderLarge, status: http.StatusBadGateway, kind: "http_response_header_section_size", hop: hopService,
		text: "The header of the answer is larger than this viewer takes.",
	}
	failHeaderTimeout = &failure{
		code: codeAnswerOverdue, status: http.StatusGatewayTimeout, kind: "http_response_timeout", hop: hopTarget,
		text: "The target did not answer in time.",
	}
	failStalled = &failure{
		code: codeStalled, status: http.StatusBadGateway, kind: "connection_write_timeout", hop: hopTarget,
		text: "The target took no bytes of the request for too long.",
	}
	failUnencodable = &failure{
		code: codeMalformedRequest, status: http.StatusBadRequest, kind: "http_request_error", hop: hopViewer,
		text: "The request cannot be carried over HTTP/2.",
	}
	failBadBody = &failure{
		code: codeMalformedBody, status: http.StatusBadRequest, kind: "http_request_error", hop: hopViewer,
		text: "The request's body is malformed, or broke off.",
	}
	failTooManyFields = &failure{
		code: codeTooManyFields, status: http.StatusRequestHeaderFieldsTooLarge, kind: "http_request_error", hop: hopService,
		text: "The request has too many header fields or trailers.",
	}
	failHeaderTooLarge = &failure{
		code: codeHeaderTooLarge, status: http.StatusRequestHeaderFieldsTooLarge, kind: "http_request_error", hop: hopService,
		text: "The request's headers are larger than the tunnel client admits.",
	}
	failReservedMethod = &failure{
		code: codeReservedMethod, status: http.StatusMethodNotAllowed, kind: "http_request_error", hop: hopService,
		text: "Only GET and HEAD are possible here.", allow: "GET, HEAD", reserved: true,
	}
	failAnswerBroke = &failure{
		code: codeAnswerBroke, kind: "connection_terminated", hop: hopTunnelClient,
		text: "The tunnel broke after the answer had begun.",
	}
	failTargetBroke = &failure{
		code: codeTargetBroke, status: http.StatusBadGateway, kind: "http_response_incomplete", hop: hopTarget,
		text: "The target broke its answer off.",
	}
	failViewerLeft = &failure{
		code: codeViewerLeft, kind: "connection_terminated", hop: hopViewer,
		text: "The viewer left.",
	}
)

// malformedTarget is the failure of a request whose target breaks a rule: err.
func malformedTarget(err error) *failure {
	return &failure{
		code: codeMalformedTarget, status: http.StatusBadRequest, kind: "http_request_error", hop: hopService,
		text: "Malformed request: " + err.Error() + ".",
	}
}

// tooManyMisses is the failure of a request for what is not here, from an address
// with too many of those, which may come again after wait.
func tooManyMisses(wait time.Duration) *failure {
	return &failure{
		code: codeTooManyMisses, status: http.StatusTooManyRequests, kind: "http_request_denied", hop: hopService,
		text: "Too many requests from this address for things that are not here.", retryAfter: wait,
	}
}

// clientFailure is a failure that the tunnel client reports.
func clientFailure(status int, kind string) *failure {
	if kind == failLoop.kind {
		return failLoop
	}
	code, ok := clientCodes[kind]
	if !ok {
		code, kind = codeTargetNoAnswer, "proxy_internal_response"
	}
	f := &failure{
		code: code, status: http.StatusBadGateway, kind: kind, hop: hopTarget, byClient: true,
		text: "The tunnel client could not get an answer from its target.",
	}
	if status == http.StatusGatewayTimeout {
		f.code, f.status = codeTargetTimeout, status
		f.text = "The tunnel client's target did not answer in time."
	}
	return f
}

// clientCodes has the error types of RFC 9209, section 2.3, that a tunnel client
// may report, and what they are here.
var clientCodes = map[string]errorCode{
	"dns_timeout":                        codeTargetDNS,
	"dns_error":                          codeTargetDNS,
	"connection_refused":                 codeTargetRefused,
	"destination_unavailable":            codeTargetUnreach,
	"destination_ip_prohibited":          codeTargetUnreach,
	"destination_ip_unroutable":          codeTargetUnreach,
	"destination_not_found":              codeTargetUnreach,
	"connection_timeout":                 codeTargetUnreach,
	"connection_limit_reached":           codeTargetUnreach,
	"tls_protocol_error":                 codeTargetTLS,
	"tls_certificate_error":              codeTargetTLS,
	"tls_alert_received":                 codeTargetTLS,
	"connection_terminated":              codeTargetBroke,
	"connection_write_timeout":           codeTargetBroke,
	"http_response_incomplete":           codeTargetBroke,
	"connection_read_timeout":            codeTargetTimeout,
	"http_response_timeout":              codeTargetTimeout,
	"http_protocol_error":                codeTargetAnswer,
	"http_response_header_section_size":  codeTargetAnswer,
	"http_response_header_size":          codeTargetAnswer,
	"http_response_body_size":            codeTargetAnswer,
	"http_response_trailer_section_size": codeTargetAnswer,
	"http_upgrade_failed":                codeTargetUpgrade,
	"http_request_error":                 codeTargetNoAnswer,
	"proxy_internal_error":               codeTargetNoAnswer,
	"proxy_configuration_error":          codeTargetNoAnswer,
}
