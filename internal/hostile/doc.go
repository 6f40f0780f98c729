// Package hostile has the tests in which a tunnel client is the attacker: one
// with a valid token, made of raw websocket and HTTP/2 frames, against a real
// service. Each attack is a row of a table with what becomes of it: what its
// viewer gets, whether its session survives, with which close code it ends and
// how soon. What all have in common is that a neighbour is served as if nothing
// happened, that the service does not panic and does not leak, and that its log
// stays short.
//
// With WST_LONG=1, and without the race detector, TestNeighbourLatency measures
// what the neighbour notices, and TestSiege does so while a process of its own attacks
// a service that is a process with little memory: viewers attack there too.
//
// FuzzViewerStream, FuzzTunnelClientStream and FuzzTargetStream put bytes of the
// fuzzer's in the place of one party of an exchange.
package hostile
