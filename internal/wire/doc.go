// Package wire holds what the service and the tunnel client must agree on:
// header names, the websocket subprotocol, the rule for ids, close codes and
// control messages. docs/protocol.md specifies their meaning.
//
// That agreement is the package's only reason to exist. Packages server and
// tunnelclient do not import each other; whatever both have to spell the same
// way is spelled here, and nothing else is.
package wire
