package server

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

func publicURL(s string) (*url.URL, error) {
	faults := configerror.New("server")
	return parsePublicURL(s, faults), faults.Err()
}

func TestConfigFaults(t *testing.T) {
	_, err := New(Config{PublicURL: "ftp://x", Secrets: [][]byte{{}}, TrustedProxies: []string{"nonsense"}, MaxStreams: -1, TLSConfig: &tls.Config{}})
	if err == nil {
		t.Fatal("no error")
	}
	var fields []string
	for _, e := range configerror.All(err) {
		fields = append(fields, e.Field)
		if e.Rule == "" || strings.Contains(e.Error(), "\n") {
			t.Errorf("%s: %v", e.Field, e)
		}
	}
	if want := []string{"PublicURL", "Secrets[0]", "TrustedProxies", "TLSConfig", "MaxStreams"}; !slices.Equal(fields, want) {
		t.Errorf("faults of %q, want %q", fields, want)
	}
	var ce *ConfigError
	if !errors.As(err, &ce) || ce.Value != "ftp://x" {
		t.Errorf("errors.As found %+v", ce)
	}
	for _, want := range []string{"PublicURL", "Secrets[0]", "nonsense", "MaxStreams", "TLSConfig"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
	for _, u := range []string{"", "x", "http://", "http://u@h", "http://h?q", "http://h#f", "http://h/a;b", "http://h//a", "http://h:99999"} {
		if _, err := publicURL(u); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
	// The tunnel client takes no viewer URL of other than ASCII characters: with
	// such a host none ever connected.
	for _, u := range []string{"https://t\u00fcnnel.example", "https://*.example.com", "https://h:", "https://h:0", "https://a..b", "https://-", "https://a,b"} {
		if _, err := publicURL(u); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
	for _, u := range []string{"https://h.example.", "http://t_x:1", "http://[::1]:80", "http://10.0.0.1", "HTTPS://H/", "http://xn--tnnel-kva.example"} {
		if _, err := publicURL(u); err != nil {
			t.Error(err)
		}
	}
	if _, err := publicURL("https://u:canary@h/?t=canary"); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	s, err := New(Config{PublicURL: "https://h/base/", Secrets: [][]byte{testSecret}})
	if err != nil || s.cfg.clientURL("a") != "https://h/base/a" {
		t.Errorf("client URL is %q, %v", s.cfg.clientURL("a"), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); !errors.Is(err, ErrServerClosed) {
		t.Errorf("Serve after Close returned %v", err)
	}
}

// TestValidate: Validate finds what New finds.
func TestValidate(t *testing.T) {
	good := Config{PublicURL: "https://h", Secrets: [][]byte{testSecret}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := good
	bad.PublicURL, bad.Secrets = "https://u:canary@h", nil
	_, want := New(bad)
	if err := bad.Validate(); err == nil || err.Error() != want.Error() || strings.Contains(err.Error(), "canary") {
		t.Errorf("Validate: %v; New: %v", err, want)
	}
}

// TestVersion: what Config.Version leaves open is filled in, and the names in
// the JSON stay.
func TestVersion(t *testing.T) {
	for _, tc := range []struct {
		version Version
		want    map[string]string // "" for any value but an empty one
	}{
		{Version{}, map[string]string{"version": "", "commit": "", "build": ""}},
		{Version{Version: "v1.2.3"}, map[string]string{"version": "v1.2.3", "commit": "", "build": ""}},
		{Version{"v1.2.3", "abc", "job 7"}, map[string]string{"version": "v1.2.3", "commit": "abc", "build": "job 7"}},
	} {
		s := newService(t, Config{Version: tc.version})
		resp, body := s.get("/__version__")
		var got map[string]string
		if err := json.Unmarshal([]byte(body), &got); err != nil || resp.StatusCode != 200 || len(got) != len(tc.want) {
			t.Errorf("%+v: %d %s: %v", tc.version, resp.StatusCode, body, err)
		}
		for name, want := range tc.want {
			if got[name] == "" || want != "" && got[name] != want {
				t.Errorf("%+v: %s is %q, want %q", tc.version, name, got[name], want)
			}
		}
	}
}
