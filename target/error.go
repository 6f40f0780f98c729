package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/websocktunnel/websocktunnel/internal/interim"
)

// failure is what a viewer learns about why the target gave no answer.
// It names no address: that is the tunnel client's own business.
type failure struct {
	status int
	kind   string // RFC 9209, section 2.3, proxy error type
	text   string
}

var (
	failDNS         = failure{http.StatusBadGateway, "dns_error", "the name of the target cannot be resolved"}
	failDNSTimeout  = failure{http.StatusBadGateway, "dns_timeout", "resolving the name of the target took too long"}
	failRefused     = failure{http.StatusBadGateway, "connection_refused", "the target refused the connection"}
	failUnroutable  = failure{http.StatusBadGateway, "destination_ip_unroutable", "there is no route to the target"}
	failUnavailable = failure{http.StatusBadGateway, "destination_unavailable", "the target cannot be reached"}
	failConnTimeout = failure{http.StatusBadGateway, "connection_timeout", "connecting to the target took too long"}
	failTerminated  = failure{http.StatusBadGateway, "connection_terminated", "the target closed the connection before it answered"}
	failIncomplete  = failure{http.StatusBadGateway, "http_response_incomplete", "the target's answer broke off"}
	failReset       = failure{http.StatusBadGateway, "connection_terminated", "the target reset the request"}
	failUnprocessed = failure{http.StatusBadGateway, "connection_terminated", errUnprocessed.Error()}
	failTimeout     = failure{http.StatusGatewayTimeout, "http_response_timeout", "the target did not answer in time"}
	failHeader      = failure{http.StatusBadGateway, "http_response_header_section_size", "the header of the target's answer is too large"}
	failHTTP        = failure{http.StatusBadGateway, "http_protocol_error", "the target's answer is not valid HTTP"}
	failUpgrade     = failure{http.StatusBadGateway, "http_upgrade_failed", "the target switched to another protocol than the one requested"}
	failEarlySwitch = failure{http.StatusBadGateway, "http_upgrade_failed", errEarlySwitch.Error()}
	failCertificate = failure{http.StatusBadGateway, "tls_certificate_error", "the certificate of the target is not trusted"}
	failAlert       = failure{http.StatusBadGateway, "tls_alert_received", "the target refused the TLS handshake"}
	failTLS         = failure{http.StatusBadGateway, "tls_protocol_error", "the target does not speak TLS as expected"}
)

// errHeaderTooLarge is about a header that HTTP/1.1 could carry and the tunnel
// cannot.
var errHeaderTooLarge = errors.New("the header of the target's answer is too large")

// errBadStatus is about a status that no answer can have.
var errBadStatus = errors.New("the target's answer has an impossible status")

// errEarlySwitch is about a 101 that comes before the request is whole. A viewer
// cannot use the connection otherwise before that (RFC 9110, section 7.8).
var errEarlySwitch = errors.New("the target switched protocols before it had the whole request")

// dialError marks an error as one of connecting, as opposed to one that came
// later on the same kind of connection.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// classify finds out how a round trip to the target failed.
func classify(err error) failure {
	var (
		dns    *net.DNSError
		dial   dialError
		cert   *tls.CertificateVerificationError
		host   x509.HostnameError
		auth   x509.UnknownAuthorityError
		inval  x509.CertificateInvalidError
		alert  tls.AlertError
		record tls.RecordHeaderError
		reset  streamError
	)
	timeout := isTimeout(err)
	switch {
	case errors.As(err, &dns) && (dns.IsTimeout || timeout):
		return failDNSTimeout
	case errors.Is(err, errUnprocessed):
		return failUnprocessed
	case errors.As(err, &reset) && strings.Contains(err.Error(), "received from peer"):
		return failReset
	case errors.Is(err, errBadStatus), errors.As(err, new(*headFault)), errors.Is(err, interim.ErrFlood):
		return failHTTP
	case errors.Is(err, errHeaderTooLarge):
		return failHeader
	case errors.Is(err, errEarlySwitch):
		return failEarlySwitch
	case errors.As(err, &dns):
		return failDNS
	case errors.Is(err, syscall.ECONNREFUSED):
		return failRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return failUnroutable
	case errors.As(err, &dial) && timeout:
		return failConnTimeout
	case errors.As(err, &dial):
		return failUnavailable
	case errors.As(err, &cert), errors.As(err, &host), errors.As(err, &auth), errors.As(err, &inval):
		return failCertificate
	case errors.As(err, &alert):
		return failAlert
	case errors.As(err, &record):
		return failTLS
	case timeout:
		return failTimeout
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
		return failTerminated
	case errors.Is(err, io.ErrUnexpectedEOF):
		return failIncomplete
	}
	return classifyText(err.Error())
}

// classifyText knows the failures that net/http has no type for. What it does
// not know comes from the parsers of HTTP.
func classifyText(s string) failure {
	switch {
	case strings.Contains(s, "gave HTTP response to HTTPS client"),
		strings.Contains(s, "tls:"),
		strings.Contains(s, "TLS handshake"):
		return failTLS
	case strings.Contains(s, "response headers exceeded"), strings.Contains(s, "response header list larger"):
		return failHeader
	case strings.Contains(s, "server closed idle connection"),
		strings.Contains(s, "server closed connection"),
		strings.Contains(s, "GOAWAY"),
		strings.Contains(s, "client connection lost"),
		strings.Contains(s, "stream error"),
		strings.Contains(s, "with Body length"): // what requestBody.end left short
		return failTerminated
	case strings.Contains(s, "tried to switch"):
		return failUpgrade
	}
	return failHTTP
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.As(err, &ne) && ne.Timeout()
}

// hint says what to change if err shows that the target speaks another protocol
// than its address says, or has another name, or returns "". h2c says which
// protocol the address has now.
func hint(err error, h2c bool) string {
	s := err.Error()
	switch {
	case errors.As(err, new(x509.HostnameError)):
		return "the target's certificate is for another name: see --target-server-name"
	case strings.Contains(s, "server gave HTTP response to HTTPS client"),
		strings.Contains(s, "first record does not look like a TLS handshake"):
		return "the target does not speak TLS: use http://"
	case strings.Contains(s, `malformed HTTP response "\x15\x03`): // a TLS alert
		return "the target speaks TLS: use https://"
	case strings.Contains(s, `malformed HTTP response "\x00\x00`): // a frame
		return "the target answers in HTTP/2: use h2c://"
	case errors.Is(err, errAnsweredHTTP1):
		return "the target answers in HTTP/1.1: use http://"
	case h2c && strings.Contains(s, "client conn could not be established"):
		// net/http says this if the target closes at once, as HTTP/1.1 servers do.
		return "the target did not begin HTTP/2. If it speaks HTTP/1.1: use http://"
	}
	return ""
}
