// Package wire holds what the service and the tunnel client must agree on:
// header names, the websocket subprotocol, the rule for ids, close codes and
// control messages. docs/protocol.md specifies their meaning.
//
// That agreement is the package's only reason to exist. Packages server and
// tunnelclient do not import each other; only what both have to spell the same way
// is here.
package wire
