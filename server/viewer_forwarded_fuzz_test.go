package server

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/websocktunnel/websocktunnel/internal/configerror"
)

// FuzzForwardedFor: of who is no trusted proxy nothing is believed; and what
// stands before the entries of trusted proxies, which is the viewer's own, does
// not change for which address limits count.
func FuzzForwardedFor(f *testing.F) {
	for _, s := range []string{"", "192.0.2.7", "10.0.0.9", "10.0.0.9, 192.0.2.7", "192.0.2.7,10.0.0.9", "[2001:db8::1]:80", "::ffff:10.0.0.2", "unknown, 10.0.0.2", ",,,",
		`for="x`, "192.0.2.7\t,\t10.0.0.2", "fe80::1%eth0", "1.2.3.4:5", strings.Repeat("10.0.0.1,", 50)} {
		f.Add(s, `for=192.0.2.7;host="a\"b"`, "h.example", "https")
		f.Add(s, s, s, s)
	}
	faults := configerror.New("server")
	trusted, err := parseTrusted([]string{"10.0.0.0/8", "fd00::/8"}, faults), faults.Err()
	if err != nil {
		f.Fatal(err)
	}
	fw := forwarding{trusted: trusted, prefixPath: "/p"}
	request := func(peer, chain, forwarded, host, proto string) *http.Request {
		return &http.Request{RemoteAddr: peer + ":1234", Host: "h", Header: http.Header{
			"X-Forwarded-For": {chain}, "Forwarded": {forwarded}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {proto}, "X-Real-Ip": {chain}, "X_forwarded_for": {chain},
		}}
	}
	f.Fuzz(func(t *testing.T, chain, forwarded, host, proto string) {
		// From anybody.
		r := request("192.0.2.1", chain, forwarded, host, proto)
		if got := fw.clientAddr(r); got != netip.MustParseAddr("192.0.2.1") {
			t.Errorf("chain %q: an untrusted peer counts as %v", chain, got)
		}
		out := r.Header.Clone()
		fw.apply(out, r, "id", "/id")
		want := http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1;host=h;proto=http"}, "X-Forwarded-Host": {"h"}, "X-Forwarded-Proto": {"http"},
			"X-Forwarded-Prefix": {"/p/id"}, "X-Websocktunnel-Original-Path": {"/id"}}
		for k := range out {
			if !slices.Equal(out[k], want[k]) {
				t.Errorf("an untrusted peer's %s is %q, want %q", k, out[k], want[k])
			}
		}

		// From a proxy that has appended a viewer's address, and another one.
		for _, appended := range []string{"192.0.2.1", "192.0.2.1, 10.0.0.2", "192.0.2.1,[fd00::2]:99 , 10.0.0.2:80"} {
			r = request("10.0.0.1", chain+","+appended, forwarded, host, proto)
			if got := fw.clientAddr(r); got != netip.MustParseAddr("192.0.2.1") {
				t.Errorf("chain %q before %q: counts as %v", chain, appended, got)
			}
		}
		// Whatever the proxies say, it is one of those named, or the peer.
		r = request("10.0.0.1", chain, forwarded, host, proto)
		got := fw.clientAddr(r)
		named := got == netip.MustParseAddr("10.0.0.1")
		for part := range strings.SplitSeq(chain, ",") {
			a, ok := parseAddr(strings.TrimSpace(part))
			named = named || ok && a == got
		}
		if !named {
			t.Errorf("chain %q: counts as %v", chain, got)
		}
		out = r.Header.Clone()
		fw.apply(out, r, "id", "/id")
		if xff := out.Get("X-Forwarded-For"); xff != "10.0.0.1" && !strings.HasSuffix(xff, ", 10.0.0.1") || chain != "" && !strings.HasPrefix(xff, chain) {
			t.Errorf("chain %q became %q", chain, xff)
		}
		if fwd := out.Get("Forwarded"); !quotesClosed(fwd) || !strings.HasSuffix(fwd, "for=10.0.0.1;host=h;proto=http") {
			t.Errorf("Forwarded %q became %q", forwarded, fwd)
		}
	})
}
