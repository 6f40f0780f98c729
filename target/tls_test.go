package target_test

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/tunneltest"
	"github.com/websocktunnel/websocktunnel/target"
)

// tlsTarget is an https target with the project's test certificate. It answers
// with the server name that its client asked for, and the name in the client's
// certificate.
func tlsTarget(t *testing.T) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := ""
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		io.WriteString(w, r.TLS.ServerName+" "+who)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{tunneltest.Certificate()}, ClientAuth: tls.RequestClientCert}
	srv.EnableHTTP2 = true
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

// TestServerName: the name in the TLS handshake, which the certificate must
// cover, was always the target's host.
func TestTargetServerName(t *testing.T) {
	t.Parallel()
	srv := tlsTarget(t)
	_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
	for _, tt := range []struct {
		name   string
		target string // "" is the server, by its address
		o      target.Options
		config string // ServerName of the TLSConfig
		want   string // "" is a certificate that does not cover the name
	}{
		{name: "an address: no name is sent", want: " "},
		{name: "the target's host", target: "https://localhost:" + port, want: "localhost "},
		{name: "of its own", o: target.Options{ServerName: "app.tunnels.test"}, want: "app.tunnels.test "},
		{name: "the Host's", o: target.Options{HostHeader: "b.tunnels.test"}, want: "b.tunnels.test "},
		{name: "the Host's, with a port", o: target.Options{HostHeader: "b.tunnels.test:8443"}, want: "b.tunnels.test "},
		{name: "the Host's, an address", o: target.Options{HostHeader: "[::1]:8443"}, want: " "},
		{name: "before the Host's", o: target.Options{HostHeader: "elsewhere.test", ServerName: "a.tunnels.test"}, want: "a.tunnels.test "},
		{name: "an address before the Host's", o: target.Options{HostHeader: "elsewhere.test", ServerName: "127.0.0.1"}, want: " "},
		{name: "of the TLSConfig, before the Host's", o: target.Options{HostHeader: "elsewhere.test"}, config: "c.tunnels.test", want: "c.tunnels.test "},
		{name: "before the TLSConfig's", o: target.Options{ServerName: "a.tunnels.test"}, config: "elsewhere.test", want: "a.tunnels.test "},
		{name: "not in the certificate", o: target.Options{ServerName: "elsewhere.test"}},
		{name: "the Host's, not in the certificate", o: target.Options{HostHeader: "elsewhere.test"}},
		{name: "not in the certificate, unverified", o: target.Options{ServerName: "elsewhere.test", InsecureSkipVerify: true}, want: "elsewhere.test "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.target == "" {
				tt.target = srv.URL
			}
			tt.o.TLSConfig = tunneltest.ClientTLS()
			tt.o.TLSConfig.ServerName = tt.config
			p := proxyTo(t, tt.target, tt.o)
			for _, upgrade := range []string{"", "echo"} { // another transport
				r := httptest.NewRequest(http.MethodGet, "http://viewer/", nil)
				if upgrade != "" {
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", upgrade)
				}
				w := httptest.NewRecorder()
				p.ServeHTTP(w, r)
				got := w.Body.String()
				if tt.want == "" {
					tt.want = "502 tls_certificate_error"
				}
				if w.Code == http.StatusBadGateway {
					got = "502 " + w.Header().Get("X-Websocktunnel-Error")
				}
				if got != tt.want {
					t.Errorf("with Upgrade %q: %q, want %q", upgrade, got, tt.want)
				}
			}
		})
	}
}

func TestTargetServerNameRules(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"app", "app.example.com", "app.example.com.", "a_b.test", "192.0.2.1", "::1"} {
		if _, err := target.New("https://app", target.Options{ServerName: good}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"app:443", "[::1]", "https://app", "app/x", "a b", "a..b", ".", "*.app", "u:hunter2@app", "ä.test"} {
		_, err := target.New("https://app", target.Options{ServerName: bad})
		if err == nil || !strings.Contains(err.Error(), "Options.ServerName") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
