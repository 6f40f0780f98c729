package h2spec

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// subject is what the suite runs against: one bit each, so that an exclusion
// can name several.
type subject uint

const (
	xnetServer    subject = 1 << iota // control: golang.org/x/net/http2.Server, h2c
	xnetServerTLS                     // control: the same over TLS
	nethttpServer                     // control: net/http's own HTTP/2, h2c
	viewerH2C                         // server.Serve
	viewerTLS                         // server.Serve with TLS
	answeringEnd                      // the tunnel client, in a websocket
	xnetTransport                     // control: golang.org/x/net/http2.Transport
	askingEnd                         // h2conn.Transport, in a websocket

	allServers   = xnetServer | xnetServerTLS | nethttpServer | viewerH2C | viewerTLS | answeringEnd
	mixedServers = xnetServer | nethttpServer | viewerH2C // HTTP/1.1 in cleartext on the same port
	allClients   = xnetTransport | askingEnd
)

// controls is what has to fail too if a subject of this project may.
var controls = map[subject]subject{
	viewerH2C:    xnetServer,
	viewerTLS:    xnetServerTLS,
	answeringEnd: xnetServerTLS, // no HTTP/1.1 either
	askingEnd:    xnetTransport,
}

// names are what the documentation calls the subjects.
var names = map[subject]string{
	xnetServer:    "x/net's server, h2c",
	xnetServerTLS: "x/net's server, TLS",
	nethttpServer: "net/http's server, h2c",
	viewerH2C:     "the service towards viewers, h2c",
	viewerTLS:     "the service towards viewers, TLS",
	answeringEnd:  "the tunnel client, in a websocket",
	xnetTransport: "x/net's client",
	askingEnd:     "the service towards the tunnel client, in a websocket",
}

// An exclusion is a case that fails, always.
type exclusion struct {
	in     subject
	reason string
}

const (
	ignoresOther = "x/net's client ignores frames on streams that it did not open or has closed; it may have cancelled what they answer"
	noGoAway     = "x/net's client closes the connection, as it must, but never flushes the GOAWAY frame that it has written before (ClientConn.readLoop), and this case wants to see one"
	answers400   = "x/net and net/http treat the request as malformed, as they must, but answer 400 instead of resetting the stream, as RFC 9113, section 8.1.1, allows"
)

// exclusions are all cases that fail, by their ids. None that passes may be
// here, and none of ours that a control passes.
var exclusions = map[string]exclusion{
	"http2/3.5/2":     {mixedServers, "what is no HTTP/2 preface is HTTP/1.1 on this port: it is answered with 400, which h2spec cannot read, and the connection is closed"},
	"http2/6.5.3/1":   {allServers, "x/net and net/http hang up on a SETTINGS frame that has the same setting twice, as a defence: Framer.HasDuplicates"},
	"http2/8.1.2.2/1": {allServers, answers400},
	"http2/8.1.2.2/2": {allServers, answers400},

	"client/5.1/1":   {allClients, ignoresOther}, // DATA, idle stream
	"client/5.1/2":   {allClients, ignoresOther}, // RST_STREAM, idle stream
	"client/5.1/3":   {allClients, ignoresOther}, // WINDOW_UPDATE, idle stream
	"client/5.1/5":   {allClients, ignoresOther}, // DATA after RST_STREAM
	"client/5.1/8":   {allClients, ignoresOther}, // DATA, closed stream
	"client/5.1/9":   {allClients, ignoresOther}, // HEADERS, closed stream
	"client/5.1.1/1": {allClients, ignoresOther}, // HEADERS, stream 101
	"client/6.1/2":   {allClients, ignoresOther}, // DATA, closed stream
	"client/6.4/2":   {allClients, ignoresOther}, // RST_STREAM, idle stream
	"client/5.4.1/2": {allClients, noGoAway},
	"client/6.9.1/1": {allClients, noGoAway},
}

func TestExclusions(t *testing.T) {
	for id, x := range exclusions {
		for ours, control := range controls {
			if x.in&ours != 0 && x.in&control == 0 {
				t.Errorf("%s is excluded for subject %#x but not for its control %#x", id, ours, control)
			}
		}
	}
	descriptions := make(map[string]string)
	for _, tc := range append(serverCases(nil), clientCases(nil)...) {
		descriptions[tc.id] = tc.desc
	}
	var b strings.Builder
	b.WriteString("Cases that fail, here and in the controls:\n\n| case | what it tests | where | reason |\n|---|---|---|---|\n")
	for _, id := range slices.Sorted(maps.Keys(exclusions)) {
		x := exclusions[id]
		var where []string
		for _, s := range slices.Sorted(maps.Keys(names)) {
			if x.in&s != 0 {
				where = append(where, names[s])
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", id, descriptions[id], strings.Join(where, "; "), x.reason)
	}
	table.Append(b.String())
}
