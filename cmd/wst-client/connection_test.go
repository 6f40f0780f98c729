package main

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/websocktunnel/websocktunnel/cmd/internal/cliapp"
	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
)

// The client certificate is shown, and a renewed one without a restart.
func TestClientCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile, caFile := filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "ca")
	writePair(t, certFile, keyFile, "first")

	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(caFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := newApp()
	for flag, value := range map[string]string{"ca-file": caFile, "client-cert": certFile, "client-key": keyFile} {
		if err := cmd.Set(flag, value); err != nil {
			t.Fatal(err)
		}
	}
	var faults cliapp.Faults
	client := newHTTPClient(cmd, "http://127.0.0.1", &faults)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"first", "second"} {
		resp, err := client.Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != want {
			t.Errorf("the server saw certificate %q (%v), want %q", got, err, want)
		}
		writePair(t, certFile, keyFile, "second")
	}
}

func writePair(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	cert, key := tunneltest.PEM(tunneltest.NewCertificate(name))
	for file, text := range map[string][]byte{certFile: cert, keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
