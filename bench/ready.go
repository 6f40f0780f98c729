package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// listening is the line that a role with a listener prints when it is ready.
type listening struct {
	Addr string `json:"addr"`
}

// serve runs an HTTP server on a free port of loopback, or of the address that
// the controller has named, with TLS if cert is set, says where, and returns when ctx ends.
func serve(ctx context.Context, srv *http.Server, cert certFiles) error {
	l, err := net.Listen("tcp", net.JoinHostPort(place{Host: os.Getenv(hostVariable)}.host(), "0"))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { srv.Close() })
	fmt.Printf("{\"addr\":%q}\n", l.Addr())
	if cert.Cert != "" {
		err = srv.ServeTLS(l, cert.Cert, cert.Key)
	} else {
		err = srv.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// report prints v as one line of JSON.
func report(v any) error {
	js, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fmt.Println(string(js))
	return nil
}

// certFiles names a certificate for 127.0.0.1, which is its own authority, and
// its key. The zero value means: no TLS.
type certFiles struct {
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
}

// makeCert makes a certificate in dir.
func makeCert(dir string) (certFiles, error) {
	files := certFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return files, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(30 * 24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:              []string{"localhost"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return files, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return files, err
	}
	for name, block := range map[string]*pem.Block{
		files.Cert: {Type: "CERTIFICATE", Bytes: der},
		files.Key:  {Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			return files, err
		}
	}
	return files, nil
}

// insecureTLS is for clients of processes that this program has started itself.
func insecureTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true}
}
