package target_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/websocktunnel/websocktunnel/target"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct{ in, scheme, host, err string }{
		{"8080", "http", "localhost:8080", ""},
		{"app:8080", "http", "app:8080", ""},
		{"[::1]:80", "http", "[::1]:80", ""},
		{"10.0.0.1:1", "http", "10.0.0.1:1", ""},
		{"http://app", "http", "app:80", ""},
		{"http://app:81/", "http", "app:81", ""},
		{"http://[::1]", "http", "[::1]:80", ""},
		{"https://app", "https", "app:443", ""},
		{"h2c://app", "h2c", "app:80", ""},
		{"HTTP://app:81", "http", "app:81", ""},
		{"unix:///run/app.sock", "http", "localhost", ""},

		{"", "", "", "one of: a port"},
		{"0", "", "", "1 to 65535"},
		{"65536", "", "", "1 to 65535"},
		{"99999999999999999999", "", "", "1 to 65535"},
		{"app", "", "", "one of: a port"},
		{":8080", "", "", "one of: a port"},
		{"app:http", "", "", "1 to 65535"},
		{"app:", "", "", "1 to 65535"},
		{"app:80/path", "", "", "1 to 65535"},
		{"a/b:80", "", "", "one of: a port"},
		{"u@h:80", "", "", "one of: a port"},
		{"u:hunter2@h:80", "", "", `"…@h:80": it must be one of`},
		{"http://app?q=hunter2", "", "", "a path or query"},
		{"::1", "", "", "one of: a port"},
		{"http://", "", "", "names no host"},
		{"http://:80", "", "", "names no host"},
		{"http://app:99999", "", "", "1 to 65535"},
		{"http://app/path", "", "", "a path or query"},
		{"http://app/?q", "", "", "a path or query"},
		{"http://app?", "", "", "a path or query"},
		{"http://app#f", "", "", "a path or query"},
		{"http://u:hunter2@app", "", "", "password"},
		{"http://u:hunter2@app:x", "", "", "cannot be parsed"},
		{"ws://app", "", "", "the scheme must be"},
		{"unix://run/app.sock", "", "", "absolute"},
		{"unix://", "", "", "absolute"},
	} {
		scheme, host, err := target.ParseTarget(tt.in)
		switch {
		case tt.err == "" && (err != nil || scheme != tt.scheme || host != tt.host):
			t.Errorf("%q: %s %s, %v", tt.in, scheme, host, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%q: error %v, want one with %q", tt.in, err, tt.err)
		}
	}
}

func TestClassify(t *testing.T) {
	op := func(op string, err error) error { return &net.OpError{Op: op, Net: "tcp", Err: err} }
	sys := func(e syscall.Errno) error { return os.NewSyscallError("connect", e) }
	for _, tt := range []struct {
		err    error
		kind   string
		status int
	}{
		{op("dial", &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}), "dns_error", 502},
		{op("dial", &net.DNSError{Err: "timeout", Name: "x", IsTimeout: true}), "dns_timeout", 502},
		{op("dial", sys(syscall.ECONNREFUSED)), "connection_refused", 502},
		{op("dial", sys(syscall.EHOSTUNREACH)), "destination_ip_unroutable", 502},
		{op("dial", sys(syscall.ENETUNREACH)), "destination_ip_unroutable", 502},
		{op("read", sys(syscall.ECONNRESET)), "connection_terminated", 502},
		{op("write", sys(syscall.EPIPE)), "connection_terminated", 502},
		{io.EOF, "connection_terminated", 502},
		{errors.New("http: server closed idle connection"), "connection_terminated", 502},
		{errors.New("http2: server sent GOAWAY and closed the connection"), "connection_terminated", 502},
		{io.ErrUnexpectedEOF, "http_response_incomplete", 502},
		{op("read", os.ErrDeadlineExceeded), "http_response_timeout", 504},
		{context.DeadlineExceeded, "http_response_timeout", 504},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "tls_certificate_error", 502},
		{x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}, "tls_certificate_error", 502},
		{tls.RecordHeaderError{Msg: "x"}, "tls_protocol_error", 502},
		{fmt.Errorf("remote error: %w", tls.AlertError(40)), "tls_alert_received", 502},
		{errors.New("http: server gave HTTP response to HTTPS client"), "tls_protocol_error", 502},
		{errors.New("net/http: TLS handshake timeout"), "tls_protocol_error", 502},
		{errors.New("malformed HTTP response"), "http_protocol_error", 502},
	} {
		if kind, status := target.Classify(tt.err); kind != tt.kind || status != tt.status {
			t.Errorf("%v: %s %d, want %s %d", tt.err, kind, status, tt.kind, tt.status)
		}
	}
}

// All faults come at once, each with the name of its argument or field, and
// without a password.
func TestFaults(t *testing.T) {
	_, err := target.New("http://u:hunter2@app", target.Options{HostHeader: "u:hunter2@h"})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 2 || strings.Contains(err.Error(), "hunter2") {
		t.Fatalf("got %v", err)
	}
	for i, want := range []target.ConfigError{{Field: "target", Value: "http://…@app"}, {Field: "Options.HostHeader", Value: "…@h"}} {
		var got *target.ConfigError
		if !errors.As(joined.Unwrap()[i], &got) || got.Field != want.Field || got.Value != want.Value || got.Rule == "" {
			t.Errorf("fault %d is %+v, want %+v", i, got, want)
		}
	}
}
