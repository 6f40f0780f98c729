package server

import (
	"strings"

	"github.com/websocktunnel/websocktunnel/internal/docs"
)

// An errorCode names why the service has refused a request or a registration, or why
// one has failed. It is the same in answers, in the log and in metrics, and stays the
// same in later versions: people search for it. docs/errors.md has an entry for each.
type errorCode string

// errorCodes are all of them: newCode is the only way to make one.
var errorCodes []errorCode

func newCode(name string) errorCode {
	c := errorCode(name)
	errorCodes = append(errorCodes, c)
	return c
}

// help returns the URL of the code's entry in docs/errors.md.
func (c errorCode) help() string {
	return docs.BaseURL + "errors.md#" + strings.ToLower(string(c))
}

// symptom returns the URL of the part of docs/troubleshooting.md that has what viewers
// and operators see when requests fail with the code.
func (c errorCode) symptom() string {
	section := "a-viewer-sees"
	switch c {
	case codeNoTunnel, codeTunnelLeft:
		section = "the-tunnel-client-does-not-connect"
	case codeNotReplaced, codeTunnelBroke, codeNodeAway, codeNodeLost:
		section = "the-tunnel-client-connects-and-the-connection-does-not-last"
	}
	return docs.BaseURL + "troubleshooting.md#" + section
}

// Answers to viewers that the service makes because of the request.
var (
	codeNotFound          = newCode("WT-NOT-FOUND")
	codeReservedPath      = newCode("WT-RESERVED-PATH")
	codePathMode          = newCode("WT-PATH-MODE")
	codeMalformedTarget   = newCode("WT-MALFORMED-TARGET")
	codeMalformedRequest  = newCode("WT-MALFORMED-REQUEST")
	codeMalformedBody     = newCode("WT-MALFORMED-BODY")
	codeTooManyFields     = newCode("WT-TOO-MANY-FIELDS")
	codeHeaderTooLarge    = newCode("WT-HEADER-TOO-LARGE")
	codeConnectMethod     = newCode("WT-CONNECT-METHOD")
	codeReservedMethod    = newCode("WT-RESERVED-METHOD")
	codeWorkerScope       = newCode("WT-WORKER-SCOPE")
	codeTooManyMisses     = newCode("WT-TOO-MANY-MISSES")
	codeLoop              = newCode("WT-LOOP")
	codeConnectionLimit   = newCode("WT-CONNECTION-LIMIT")
	codeMemoryLimit       = newCode("WT-MEMORY-LIMIT")
	codeAnswerHeaderLarge = newCode("WT-ANSWER-HEADER-TOO-LARGE")
	codeViewerLeft        = newCode("WT-VIEWER-LEFT")
)

// Answers to viewers that the service makes because of the tunnel or its client.
var (
	codeNoTunnel       = newCode("WT-NO-TUNNEL")
	codeTunnelLeft     = newCode("WT-TUNNEL-LEFT")
	codeNotReplaced    = newCode("WT-NOT-REPLACED")
	codeTunnelBusy     = newCode("WT-TUNNEL-BUSY")
	codeTunnelBroke    = newCode("WT-TUNNEL-BROKE")
	codeAnswerBroke    = newCode("WT-ANSWER-BROKE")
	codeBadAnswer      = newCode("WT-BAD-ANSWER")
	codeStalled        = newCode("WT-STALLED")
	codeAnswerOverdue  = newCode("WT-ANSWER-OVERDUE")
	codeNodeAway       = newCode("WT-NODE-AWAY")
	codeNodeLost       = newCode("WT-NODE-LOST")
	codeDirectory      = newCode("WT-DIRECTORY")
	codeTargetDNS      = newCode("WT-TARGET-DNS")
	codeTargetRefused  = newCode("WT-TARGET-REFUSED")
	codeTargetUnreach  = newCode("WT-TARGET-UNREACHABLE")
	codeTargetTLS      = newCode("WT-TARGET-TLS")
	codeTargetBroke    = newCode("WT-TARGET-BROKE")
	codeTargetTimeout  = newCode("WT-TARGET-TIMEOUT")
	codeTargetAnswer   = newCode("WT-TARGET-BAD-ANSWER")
	codeTargetUpgrade  = newCode("WT-TARGET-UPGRADE")
	codeTargetNoAnswer = newCode("WT-TARGET-NO-ANSWER")
)

// Refused and failed registrations.
var (
	codeBadID             = newCode("WT-BAD-ID")
	codeToken             = newCode("WT-TOKEN")
	codeTokenClaims       = newCode("WT-TOKEN-CLAIMS")
	codeTokenID           = newCode("WT-TOKEN-ID")
	codeTokenAudience     = newCode("WT-TOKEN-AUDIENCE")
	codeTokenNotYetValid  = newCode("WT-TOKEN-NOT-YET-VALID")
	codeTokenExpired      = newCode("WT-TOKEN-EXPIRED")
	codeNoUpgrade         = newCode("WT-NO-UPGRADE")
	codeWebsocketVersion  = newCode("WT-WEBSOCKET-VERSION")
	codeWebsocketKey      = newCode("WT-WEBSOCKET-KEY")
	codeSubprotocol       = newCode("WT-SUBPROTOCOL")
	codeTooManyFailures   = newCode("WT-TOO-MANY-FAILURES")
	codeShuttingDown      = newCode("WT-SHUTTING-DOWN")
	codeTunnelLimit       = newCode("WT-TUNNEL-LIMIT")
	codeTooManyHandshakes = newCode("WT-TOO-MANY-HANDSHAKES")
	codeNoMemoryForTunnel = newCode("WT-NO-MEMORY-FOR-TUNNEL")
	codeUpgradeFailed     = newCode("WT-UPGRADE-FAILED")
	codeNoHTTP2           = newCode("WT-NO-HTTP2")
	codeFewStreams        = newCode("WT-FEW-STREAMS")
	codeOvertaken         = newCode("WT-OVERTAKEN")
	codeNotJoined         = newCode("WT-NOT-JOINED")
	codeEvicted           = newCode("WT-EVICTED")
)
