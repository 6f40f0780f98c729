package main

import (
	"fmt"
	"strings"
	"testing"
)

// configOf reads a configuration of good settings, changed by pairs of a name and
// its value. They are flags where asFlags is set, otherwise variables.
func configOf(asFlags bool, edits ...string) (config, error) {
	values := map[string]string{"URL_PREFIX": "http://localhost", secretNames[0]: strings.Repeat("s", minSecret)}
	for i := 0; i < len(edits); i += 2 {
		values[edits[i]] = edits[i+1]
	}
	from := origin{kind: byEnvironment}
	if asFlags {
		from.kind = byFlag
	}
	return readConfig(input{lookup: func(name string) (string, origin) { return values[name], from }})
}

// White space around a value, from echo, YAML or a file with CRLF, is not part of
// it.
func TestValuesAreTrimmed(t *testing.T) {
	for _, asFlags := range []bool{false, true} {
		for _, end := range []string{"", "\n", "\r\n", "\r", " ", "\t", "\n\n", "\u00a0"} {
			c, err := configOf(asFlags, "ENV", "production"+end, "AUDIENCE", end+"svc"+end, "URL_PREFIX", "https://tunnel.example.com"+end, "PORT", "8080"+end,
				"LISTEN_ADDR", "127.0.0.1"+end, "VIEWER_DOMAIN", "tunnels.example.com"+end, "PATH_MODE", "off"+end, "DRAIN_TIMEOUT", "90s"+end, "TOKEN_EXPIRY", "ignore"+end,
				"TRUSTED_PROXIES", "10.0.0.0/8,"+end+"192.0.2.1"+end, "SYSLOG_ADDR", "logs.example.com:514"+end, "MAX_CONNECTIONS", "off"+end)
			if err != nil || len(c.warnings) > 0 {
				t.Errorf("%q: %v, warnings %q", end, err, c.warnings)
			}
			got := fmt.Sprintf("%v %s %s %d %s %s %v %v %v %q %s %d", c.production, c.server.Audience, c.urlPrefix, c.port, c.addr, c.server.ViewerDomain,
				c.server.DisablePathMode, c.server.DrainTimeout, c.server.IgnoreTokenExpiry, c.server.TrustedProxies, c.syslogAddr, c.server.MaxConnections)
			if want := `true svc https://tunnel.example.com 8080 127.0.0.1 tunnels.example.com true 1m30s true ["10.0.0.0/8" "192.0.2.1"] logs.example.com:514 -1`; got != want {
				t.Errorf("%q: got %s, want %s", end, got, want)
			}
		}
	}
}

// Of a secret only line breaks go, with a warning; the rules see what remains.
func TestSecretsAreTrimmed(t *testing.T) {
	secret := strings.Repeat("s", minSecret)
	for _, tt := range []struct{ value, want, warning string }{
		{secret, secret, ""},
		{secret + "\n", secret, "has line breaks at its beginning or end"},
		{"\r\n" + secret + "\r\n", secret, "has line breaks at its beginning or end"},
		{secret + " ", secret + " ", "has white space at its beginning or end, which is part of the secret"},
		{secret + "\nx", secret + "\nx", ""},
	} {
		c, err := configOf(false, secretNames[0], tt.value)
		if err != nil || string(c.server.Secrets[0]) != tt.want {
			t.Errorf("%q: %v, %q", tt.value, err, c.server.Secrets)
		}
		if all := strings.Join(c.warnings, "\n"); (tt.warning == "") != (all == "") || !strings.Contains(all, tt.warning) || strings.Contains(all, secret) {
			t.Errorf("%q: the warnings are %q, want %q", tt.value, all, tt.warning)
		}
	}
	if _, err := configOf(false, secretNames[0], "\n"); err == nil || !strings.Contains(err.Error(), "is required") {
		t.Errorf("a secret of a line break alone: %v", err)
	}
	if _, err := configOf(false, "ENV", "production", secretNames[0], secret[1:]+"\n"); err == nil || !strings.Contains(err.Error(), "shorter than 32 bytes") {
		t.Errorf("a short secret with a line break: %v", err)
	}
}

// What is set and yet has no effect is named at the start.
func TestOddValuesAreNamed(t *testing.T) {
	for _, tt := range []struct{ name, value, warning string }{
		{"ENV", "prodution", `ENV is "prodution", not "production"`},
		{"ENV", "Production", `ENV is "Production", not "production"`},
		{"ENV", "prod\n", `ENV is "prod", not "production"`},
		{"ENV", `"production"`, `ENV is "\"production\"", not`},
		{"ENV", "live", `ENV is "live"`},
		{"ENV", "development", ""},
		{"ENV", "Staging", ""},
		{"ENV", "", ""},
		{"AUDIENCE", " \r\n", "AUDIENCE holds only white space and counts as not set"},
		{"AUDIENCE", `"svc"` + "\r", "AUDIENCE is in quotation marks"},
		{"AUDIENCE", `'svc'`, "AUDIENCE is in quotation marks"},
		{"AUDIENCE", `"`, ""},
		{secretNames[0], `"` + strings.Repeat("s", minSecret) + `"`, secretNames[0] + " is in quotation marks"},
		{"SYSLOG_ADDR", "\r", "SYSLOG_ADDR holds only white space"},
	} {
		c, err := configOf(false, tt.name, tt.value)
		if all := strings.Join(c.warnings, "\n"); err != nil || (tt.warning == "") != (all == "") || !strings.Contains(all, tt.warning) {
			t.Errorf("%s=%q: %v, warnings %q, want %q", tt.name, tt.value, err, all, tt.warning)
		}
		if c.production {
			t.Errorf("%s=%q is production", tt.name, tt.value)
		}
	}
	if _, err := configOf(false, "DRAIN_TIMEOUT", "soon\n"); err == nil || !strings.Contains(err.Error(), `DRAIN_TIMEOUT "soon": it must be a time`) {
		t.Errorf("an odd time: %v", err)
	}
}

// A variable that may be misspelled is a warning, and where the start fails it
// stands beside the faults, which it may be the reason for.
func TestMisspelledIsTold(t *testing.T) {
	values := map[string]string{"URL_PREFIX": "http://localhost"}
	in := input{
		lookup:  func(name string) (string, origin) { return values[name], origin{kind: byEnvironment} },
		unknown: misspelled([]string{"TASKCLUSTER_PROXY_SECRT_A=canary"}),
	}
	if _, err := readConfig(in); err == nil || strings.Count(err.Error(), "\n") != 1 || !strings.Contains(err.Error(), "did you mean TASKCLUSTER_PROXY_SECRET_A?") || strings.Contains(err.Error(), "canary") {
		t.Errorf("without a secret: %v", err)
	}
	values[secretNames[0]] = strings.Repeat("s", minSecret)
	if c, err := readConfig(in); err != nil || len(c.warnings) != 1 || !strings.Contains(c.warnings[0], "TASKCLUSTER_PROXY_SECRT_A is not a variable") {
		t.Errorf("with one: %v, warnings %q", err, c.warnings)
	}
}

// Line breaks in PEM may be escaped, as JSON and files of variables have them.
func TestPEMWithEscapedLineBreaks(t *testing.T) {
	cert, key := testPair(t, 1)
	escaped := func(b []byte) string { return " " + strings.ReplaceAll(string(b), "\n", `\n`) + "\r\n" }
	c, err := configOf(false, "URL_PREFIX", "https://localhost", "TLS_CERTIFICATE", escaped(cert), "TLS_KEY", escaped(key))
	if err != nil || c.certificate == nil || len(c.warnings) > 0 {
		t.Errorf("%v, certificate %v, warnings %q", err, c.certificate, c.warnings)
	}
}
