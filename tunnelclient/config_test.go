package tunnelclient_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
	"github.com/websocktunnel/websocktunnel/tunnelclient"
)

func TestConfig(t *testing.T) {
	src := tunnelclient.StaticToken("t")
	for _, tt := range []struct {
		name     string
		cfg      tunnelclient.Config
		endpoint string
		err      string
	}{
		{"https", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src}, "https://h/", ""},
		{"wss and slash", tunnelclient.Config{ServerURL: "wss://h:8/", ID: "a", Tokens: src}, "wss://h:8/", ""},
		{"path", tunnelclient.Config{ServerURL: "http://h/p%2Fq", ID: "a", Tokens: src}, "http://h/p%2Fq/", ""},
		{"IPv6", tunnelclient.Config{ServerURL: "ws://[::1]:80", ID: "a", Tokens: src}, "ws://[::1]:80/", ""},
		{"no URL", tunnelclient.Config{ID: "a", Tokens: src}, "", "ServerURL is required"},
		{"no scheme", tunnelclient.Config{ServerURL: "h:80", ID: "a", Tokens: src}, "", `"h:80": it must begin with https://`},
		{"other scheme", tunnelclient.Config{ServerURL: "ftp://h", ID: "a", Tokens: src}, "", `"ftp://h": it must begin`},
		{"no host", tunnelclient.Config{ServerURL: "https:///p", ID: "a", Tokens: src}, "", "names no host"},
		{"port only", tunnelclient.Config{ServerURL: "https://:80", ID: "a", Tokens: src}, "", "names no host"},
		{"query", tunnelclient.Config{ServerURL: "https://h/?a", ID: "a", Tokens: src}, "", "query"},
		{"fragment", tunnelclient.Config{ServerURL: "https://h/#a", ID: "a", Tokens: src}, "", "fragment"},
		{"password", tunnelclient.Config{ServerURL: "https://u:hunter2@h", ID: "a", Tokens: src}, "", "where the token is, as Bearer: a front must take what it wants to see from another header, set with Header (--header)"},
		{"password without a scheme", tunnelclient.Config{ServerURL: "u:hunter2@h:80", ID: "a", Tokens: src}, "", `"…@h:80": it must begin with https://`},
		{"secret in a query", tunnelclient.Config{ServerURL: "https://h/?t=hunter2", ID: "a", Tokens: src}, "", `"https://h/?…": it must not have a query`},
		{"malformed", tunnelclient.Config{ServerURL: "https://u:hunter2@h\x00", ID: "a", Tokens: src}, "", "cannot be parsed"},
		{"no id", tunnelclient.Config{ServerURL: "https://h", Tokens: src}, "", "ID is empty"},
		{"bad id", tunnelclient.Config{ServerURL: "https://h", ID: "a/b", Tokens: src}, "", `"a/b"`},
		{"headers", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"CF-Access-Client-Id": {"a"}, "cookie": {"a=b"}, "Origin": {"https://h"}}}, "https://h/", ""},
		{"credentials", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"authorization": {"hunter2"}}}, "", `Header "authorization": the token goes there, as Bearer`},
		{"host in a header", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"Host": {"hunter2"}}}, "", `Header "Host": ServerURL (SERVER-URL) names the host`},
		{"a proxy's credentials", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"Proxy-Authorization": {"hunter2"}}}, "", `(--proxy)`},
		{"the handshake's own", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"Sec-WebSocket-Protocol": {"hunter2"}}}, "", "handshake"},
		{"connection", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"Upgrade": {"hunter2"}}}, "", "one connection"},
		{"private", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"x-websocktunnel-id": {"hunter2"}}}, "", "X-Websocktunnel-"},
		{"two lines", tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: src, Header: http.Header{"X-A": {"hunter2\r\nX-B: c"}}}, "", `Header "X-A": its value has a line break`},
		{"no tokens", tunnelclient.Config{ServerURL: "https://h", ID: "a"}, "", "Tokens is nil"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tunnelclient.New(tt.cfg)
			switch {
			case tt.err == "" && err != nil:
				t.Error(err)
			case tt.err == "" && c.Endpoint() != tt.endpoint:
				t.Errorf("endpoint %q, want %q", c.Endpoint(), tt.endpoint)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("error %v, want one with %q", err, tt.err)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

// All faults come at once, each with the name of its field.
func TestConfigFaults(t *testing.T) {
	cfg := tunnelclient.Config{ServerURL: "ftp://u:hunter2@h", ID: "a/b"}
	_, err := tunnelclient.New(cfg)
	var ce *tunnelclient.ConfigError
	if !errors.As(err, &ce) || ce.Field != "ServerURL" || ce.Value != "ftp://…@h" {
		t.Errorf("errors.As found %+v in %v", ce, err)
	}
	var fields []string
	for _, e := range configerror.All(err) {
		fields = append(fields, e.Field)
	}
	if want := []string{"ServerURL", "ID", "Tokens"}; !slices.Equal(fields, want) {
		t.Errorf("faults of %q, want %q", fields, want)
	}
	if v := cfg.Validate(); v == nil || v.Error() != err.Error() {
		t.Errorf("Validate: %v; New: %v", v, err)
	}
}

// New changes nothing that belongs to its caller.
func TestConfigIsCopied(t *testing.T) {
	hc := &http.Client{}
	if _, err := tunnelclient.New(tunnelclient.Config{
		ServerURL: "https://h", ID: "a", Tokens: tunnelclient.StaticToken("t"), HTTPClient: hc,
	}); err != nil {
		t.Fatal(err)
	}
	if hc.CheckRedirect != nil || hc.Transport != nil {
		t.Error("the caller's HTTPClient was changed")
	}
}

func TestNilHandler(t *testing.T) {
	c, err := tunnelclient.New(tunnelclient.Config{ServerURL: "https://h", ID: "a", Tokens: tunnelclient.StaticToken("t")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Serve(t.Context(), nil); err == nil {
		t.Error("Serve took a nil handler")
	}
}

func TestPhaseString(t *testing.T) {
	for p, want := range map[tunnelclient.Phase]string{
		tunnelclient.PhaseConnecting: "connecting",
		tunnelclient.PhaseConnected:  "connected",
		tunnelclient.PhaseDraining:   "draining",
		tunnelclient.PhaseWaiting:    "waiting",
		0:                            "unknown",
	} {
		if p.String() != want {
			t.Errorf("%d is %q, want %q", p, p, want)
		}
	}
}
