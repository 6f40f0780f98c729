package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/netconn"
)

// newHTTPClient returns the client for the handshake with the service. The flags
// for that connection and the environment's proxies configure it.
func newHTTPClient(cmd *cli.Command, serverURL string, faults *cliapp.Faults) *http.Client {
	var http1 http.Protocols
	http1.SetHTTP1(true) // the handshake needs HTTP/1.1
	return &http.Client{Transport: &http.Transport{
		Proxy:               proxy(cmd.String("proxy"), serverURL, faults),
		DialContext:         netconn.RawDialer(&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}),
		TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: &tls.Config{
			RootCAs:              rootCAs(cmd, "ca-file", faults),
			GetClientCertificate: clientCertificate(cmd, "client-cert", "client-key", faults),
		},
		Protocols:         &http1,
		DisableKeepAlives: true, // one handshake, one connection
	}}
}

// rootCAs returns the certificates in the file that a flag names, or nil for
// the system's.
func rootCAs(cmd *cli.Command, flag string, faults *cliapp.Faults) *x509.CertPool {
	file := cmd.String(flag)
	if file == "" {
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		faults.Add("--%s: %v", flag, err)
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		faults.Add("--%s %q: it has no PEM certificate", flag, file)
	}
	return pool
}

// clientCertificate returns what reads the pair in the files of two flags for each
// handshake, so that renewed files need no restart, or nil if there is none.
func clientCertificate(cmd *cli.Command, certFlag, keyFlag string, faults *cliapp.Faults) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, key := cmd.String(certFlag), cmd.String(keyFlag)
	switch {
	case cert == "" && key == "":
		return nil
	case key == "":
		faults.Add("--%s is required because --%s is set", keyFlag, certFlag)
		return nil
	case cert == "":
		faults.Add("--%s is required because --%s is set", certFlag, keyFlag)
		return nil
	}
	load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		return &pair, err
	}
	if _, err := load(nil); err != nil {
		faults.Add("--%s and --%s: %v", certFlag, keyFlag, err)
	}
	return load
}
