package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// testPair makes a certificate for localhost and its key, in PEM.
func testPair(t testing.TB, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// echoTLS answers every connection with what it sends, over TLS.
func echoTLS(t *testing.T, cfg *tls.Config) (addr string) {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
	return ln.Addr().String()
}

// serialAt returns the serial number of the certificate shown at addr.
func serialAt(t *testing.T, addr string) (int64, *tls.Conn) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), conn
}

// TestCertificateFollowsItsFiles: new connections get a new pair, open ones stay,
// and files that do not match, or not yet, change nothing.
func TestCertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	write := func(file string, b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert1, key1 := testPair(t, 1)
	cert2, key2 := testPair(t, 2)
	cert3, key3 := testPair(t, 3)
	write(certFile, cert1)
	write(keyFile, key1)
	c, err := newCertificate(cert1, key1, certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	addr := echoTLS(t, c.config())

	var log bytes.Buffer
	polled := func(what string, serial int64, lines ...string) {
		t.Helper()
		log.Reset()
		for range 4 {
			c.poll(zerolog.New(&log))
		}
		if got, _ := serialAt(t, addr); got != serial {
			t.Errorf("%s: certificate %d is shown, want %d", what, got, serial)
		}
		if n := strings.Count(log.String(), "\n"); n != len(lines) {
			t.Errorf("%s: %d lines, want %d: %s", what, n, len(lines), log.String())
		}
		for _, l := range lines {
			if !strings.Contains(log.String(), l) {
				t.Errorf("%s: no %q in %s", what, l, log.String())
			}
		}
		if strings.Contains(log.String(), "PRIVATE") {
			t.Errorf("%s: the key is in the log: %s", what, log.String())
		}
	}

	_, old := serialAt(t, addr)
	polled("nothing", 1)
	write(certFile, cert2)
	polled("the certificate before the key", 1, "certificate files changed but do not match; keeping the old pair")
	write(keyFile, key2[:len(key2)/2])
	polled("half a key", 1, "certificate files changed but do not match; keeping the old pair")
	write(keyFile, key2)
	polled("the key too", 2, `"serial":"2"`)
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	polled("no key", 2, "certificate files changed but do not match; keeping the old pair")
	write(keyFile, key2)
	polled("the key again", 2)
	write(certFile, []byte("x"))
	polled("garbage", 2, "holds neither PEM")
	write(certFile, nil)
	polled("empty", 2, "is empty")
	write(certFile, cert1)
	write(keyFile, key1)
	polled("the first pair again", 1, `"serial":"1"`)

	// As Kubernetes does it: a link is renamed over another.
	if err := os.Mkdir(filepath.Join(dir, "v3"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(dir, "v3", "cert"), cert3)
	write(filepath.Join(dir, "v3", "key"), key3)
	for _, name := range []string{"cert", "key"} {
		link := filepath.Join(dir, "new-"+name)
		if err := os.Symlink(filepath.Join("v3", name), link); err != nil {
			t.Skip(err)
		}
		if err := os.Rename(link, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	polled("links", 3, `"serial":"3"`)

	// Seen in the middle of being written, it is left alone.
	log.Reset()
	write(certFile, cert1)
	c.poll(zerolog.New(&log))
	write(keyFile, key1)
	c.poll(zerolog.New(&log))
	if log.Len() > 0 {
		t.Errorf("in the middle: %s", log.String())
	}
	polled("written to its end", 1, `"serial":"1"`)

	if _, err := old.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(old, got); err != nil || string(got) != "hello" {
		t.Errorf("the connection from before: %q, %v", got, err)
	}
}

// TestTLSVersions: nothing older than TLS 1.2 and no key exchange without
// forward secrecy; the newest where the other end has it.
func TestTLSVersions(t *testing.T) {
	cert, key := testPair(t, 1)
	c, err := newCertificate(cert, key, "", "")
	if err != nil {
		t.Fatal(err)
	}
	addr := echoTLS(t, c.config())
	for name, tc := range map[string]struct {
		cfg *tls.Config
		ok  bool
	}{
		"TLS 1.0":      {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, false},
		"TLS 1.1":      {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"TLS 1.2":      {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"TLS 1.2, CBC": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}, false},
		"TLS 1.2, RC4": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA}}, false},
		"newest":       {&tls.Config{}, true},
	} {
		tc.cfg.InsecureSkipVerify = true
		conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: 10 * time.Second}, Config: tc.cfg}).DialContext(t.Context(), "tcp", addr)
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v, want a connection: %v", name, err, tc.ok)
		}
		if err != nil {
			continue
		}
		state := conn.(*tls.Conn).ConnectionState()
		if name == "newest" && (state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768) {
			t.Errorf("version %x, key exchange %v", state.Version, state.CurveID)
		}
		conn.Close()
	}
}
